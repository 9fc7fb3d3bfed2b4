//! A page of a listing: how many, and after which id ("Querying ECS Groups").

use crate::domain::excerpt::Excerpt;
use crate::domain::id::GroupId;

/// The most groups on one page, and the page when no limit is given ("The maximum value is 1,000").
pub const LIMIT_MAX: u16 = 1_000;

/// A page of groups in creation order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    limit: u16,
    offset: u32,
    marker: Option<GroupId>,
}

/// Why a limit and marker do not make a page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// `limit` is not a number from 1 to [`LIMIT_MAX`].
    #[error("must be a whole number from 1 to {LIMIT_MAX}, and is {0}")]
    Limit(Excerpt),
    /// `marker` is not a UUID.
    #[error("must be the UUID of an ECS group, and is {0}")]
    Marker(Excerpt),
    /// `marker` without `limit` ("marker and limit must be used together").
    #[error("must be used together with limit")]
    MarkerAlone,
}

impl PageError {
    /// The query parameter at fault.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Limit(_) => "limit",
            Self::Marker(_) | Self::MarkerAlone => "marker",
        }
    }
}

impl Page {
    /// Reads a page from the query's two texts.
    ///
    /// # Errors
    /// When one of them breaks its rule, naming it.
    pub fn parse(limit: Option<&str>, marker: Option<&str>) -> Result<Self, PageError> {
        let marker = match marker {
            None => None,
            Some(text) => Some(text.parse().map_err(|_not_a_uuid| PageError::Marker(Excerpt::of(text)))?),
        };
        let limit = match limit {
            None if marker.is_some() => return Err(PageError::MarkerAlone),
            None => LIMIT_MAX,
            Some(text) => match text.parse() {
                Ok(limit) if (1..=LIMIT_MAX).contains(&limit) && !text.starts_with('+') => limit,
                _ => return Err(PageError::Limit(Excerpt::of(text))),
            },
        };
        Ok(Self { limit, offset: 0, marker })
    }

    /// The page of the native interface, which counts from the marker on; the limit is cut to [`LIMIT_MAX`].
    #[must_use]
    pub fn native(limit: u16, offset: u32, marker: Option<GroupId>) -> Self {
        Self { limit: limit.clamp(1, LIMIT_MAX), offset, marker }
    }

    /// How many groups after the marker are left out.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// The most groups on this page, 1 to [`LIMIT_MAX`].
    #[must_use]
    pub const fn limit(&self) -> u16 {
        self.limit
    }

    /// The page starts after this id, whether or not such a group still exists.
    #[must_use]
    pub const fn marker(&self) -> Option<GroupId> {
        self.marker
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "5bbcc3c4-1da2-4437-a48a-66f15b1b13f9";

    proptest! {
        #[test]
        fn a_limit_is_taken_exactly_from_1_to_1000(limit in -10_i64..=70_000) {
            let text = limit.to_string();
            let page = Page::parse(Some(&text), None);
            prop_assert_eq!(page.is_ok(), (1..=1_000).contains(&limit));
            if let Ok(page) = page {
                prop_assert_eq!(i64::from(page.limit()), limit);
            }
        }

        #[test]
        fn any_other_text_as_limit_is_refused_naming_it(text in "[^0-9]{0,8}|[1-9][0-9]{4,29}|0{1,30}|\\+[0-9]") {
            prop_assert_eq!(Page::parse(Some(&text), None), Err(PageError::Limit(Excerpt::of(&text))));
        }
    }

    #[test]
    fn zeros_in_front_of_a_limit_mean_nothing() {
        assert_eq!(Page::parse(Some("00010"), None).unwrap().limit(), 10);
    }

    #[test]
    fn without_a_limit_a_page_holds_1000() {
        let page = Page::parse(None, None).unwrap();
        assert_eq!((page.limit(), page.marker()), (LIMIT_MAX, None));
    }

    #[test]
    fn a_marker_needs_a_limit_and_must_be_a_uuid() {
        assert_eq!(Page::parse(None, Some(ID)), Err(PageError::MarkerAlone));
        assert_eq!(Page::parse(Some("2"), Some("x")), Err(PageError::Marker(Excerpt::of("x"))));
        assert_eq!(Page::parse(Some("2"), Some(ID)).unwrap().marker(), Some(ID.parse().unwrap()));
    }
}
