//! What somebody sent, short enough to stand in an error message.

use std::fmt;

/// The beginning of a text, at most [`Excerpt::CHARS_MAX`] characters of it; displays in quotes, with control
/// characters escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    /// The most characters that are kept.
    pub const CHARS_MAX: usize = 64;

    /// The beginning of `text`, with an ellipsis where it was cut.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.char_indices().nth(Self::CHARS_MAX) {
            None => Self(text.to_owned()),
            Some((end, _)) => Self(format!("{}…", &text[..end])),
        }
    }

    /// The text without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_after_64_characters() {
        let fits = "é".repeat(Excerpt::CHARS_MAX);
        assert_eq!(Excerpt::of(&fits).as_str(), fits);
        assert_eq!(Excerpt::of(&format!("{fits}x")).as_str(), format!("{fits}…"));
        assert_eq!(Excerpt::of("a\n\"b\"").to_string(), r#""a\n\"b\"""#);
    }
}
