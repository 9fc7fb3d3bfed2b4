//! Patterns with `*` for any run of characters, and where the grammar has it, `?` for exactly one.

/// What a pattern's characters mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// `?` is any one character.
    pub(super) has_question_mark: bool,
    /// Upper and lower case are the same.
    pub(super) ignores_case: bool,
}

/// Whether the whole of `text` matches `pattern`.
pub(super) fn matches(pattern: &str, text: &str, rules: Rules) -> bool {
    let is_same = |one: char, other: char| {
        one == other || (rules.ignores_case && one.to_lowercase().eq(other.to_lowercase()))
    };
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on after the newest `*`, when what follows it does not fit here.
    let mut retry = None;
    loop {
        let before_text = text.clone();
        let is_fit = match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                text = before_text.clone();
                retry = Some((pattern.clone(), before_text));
                continue;
            }
            (None, None) => return true,
            (Some('?'), Some(_)) if rules.has_question_mark => true,
            (Some(expected), Some(found)) => is_same(expected, found),
            (None, Some(_)) => false,
            (Some(_), None) => return false,
        };
        if !is_fit {
            let Some((after_star, at)) = &mut retry else { return false };
            // The `*` takes one character more.
            if at.next().is_none() {
                return false;
            }
            (pattern, text) = (after_star.clone(), at.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIVE: Rules = Rules { has_question_mark: true, ignores_case: true };
    const EXACT: Rules = Rules { has_question_mark: false, ignores_case: false };

    /// As it is defined, and slow.
    fn by_definition(pattern: &[char], text: &[char], rules: Rules) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=text.len()).any(|skip| by_definition(rest, &text[skip..], rules)),
            (Some(_), None) | (None, Some(_)) => false,
            (Some((expected, rest)), Some((found, more))) => {
                let is_any = *expected == '?' && rules.has_question_mark;
                let is_same =
                    expected == found || (rules.ignores_case && expected.eq_ignore_ascii_case(found));
                (is_any || is_same) && by_definition(rest, more, rules)
            }
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_it_is_defined(pattern in "[aAb*?]{0,8}", text in "[aAb?]{0,8}", has_question_mark: bool, ignores_case: bool) {
            let rules = Rules { has_question_mark, ignores_case };
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text, rules), by_definition(&chars(&pattern), &chars(&text), rules));
        }
    }

    #[test]
    fn patterns_as_policies_have_them() {
        for (pattern, text, is_match) in [
            ("ecs:cloudServers:*ServerGroup*", "ecs:cloudServers:createServerGroup", true),
            ("ecs:cloudServers:*ServerGroup*", "ecs:cloudServers:listServerGroups", true),
            ("ecs:cloudservers:*servergroup", "ecs:cloudServers:listServerGroups", false),
            ("*:*:Get*", "ecs:cloudServers:get", true),
            ("*", "", true),
            ("ecs:*:?et", "ecs:cloudServers:get", true),
        ] {
            assert_eq!(matches(pattern, text, FIVE), is_match, "{pattern} {text}");
        }
        assert!(!matches("Alice", "alice", EXACT));
        assert!(!matches("alic?", "alice", EXACT));
    }
}
