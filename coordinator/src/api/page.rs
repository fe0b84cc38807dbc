//! Pages of lists: how many, and where the next one begins.
//!
//! A token is opaque to callers and checked here: one of another list, of another filter, or one that was changed is
//! refused, so that a page is never silently of something else.

use rfs_link::Failure;

/// How many items a page has when the caller does not say, and at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) default: u32,
    pub(super) most: u32,
}

impl Size {
    /// What the caller asked for, within bounds.
    pub(super) fn of(self, page_size: i32) -> Result<u32, Failure> {
        match u32::try_from(page_size) {
            Ok(0) => Ok(self.default),
            Ok(size) => Ok(size.min(self.most)),
            Err(_) => Err(Failure::invalid("page_size", format!("must not be negative, and is {page_size}"))),
        }
    }
}

/// A list, with what it is filtered by: a token is for it alone.
#[derive(Debug, Clone)]
pub(super) struct List {
    what: String,
}

impl List {
    /// The list `name`, filtered by `filter`.
    pub(super) fn new(name: &str, filter: impl std::fmt::Debug) -> Self {
        Self { what: format!("{name} {filter:?}") }
    }

    /// The token of the page after the item `last`.
    pub(super) fn token(&self, last: &str) -> String {
        let hex: String = last.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{:016x}{hex}", self.check(last))
    }

    /// The item after which the page begins; none for the first page.
    pub(super) fn after(&self, page_token: &str) -> Result<Option<String>, Failure> {
        if page_token.is_empty() {
            return Ok(None);
        }
        let refused = || {
            Failure::invalid("page_token", "is not a next_page_token of this list").next(
                "leave page_token out to begin with the first page, and keep the other fields as they were",
            )
        };
        let last = self.read(page_token).ok_or_else(refused)?;
        Ok(Some(last))
    }

    fn read(&self, token: &str) -> Option<String> {
        let (check, hex) = token.split_at_checked(16)?;
        let check = u64::from_str_radix(check, 16).ok()?;
        let pairs =
            hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
        let last = String::from_utf8(pairs.collect::<Option<_>>()?).ok()?;
        (self.check(&last) == check).then_some(last)
    }

    fn check(&self, last: &str) -> u64 {
        fingerprint(self.what.bytes().chain([0]).chain(last.bytes()))
    }
}

/// A number that is the same for the same bytes, on every machine and in every version (FNV-1a).
pub(crate) fn fingerprint(bytes: impl Iterator<Item = u8>) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.fold(0xcbf2_9ce4_8422_2325, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_next_page_of_its_own_list_alone() {
        let list = List::new("hosts", "role=web");
        let token = list.token("web-1");
        assert_eq!(list.after(&token), Ok(Some("web-1".to_owned())));
        assert_eq!(list.after(""), Ok(None));
        for other in [List::new("hosts", "role=db"), List::new("rollbacks", "role=web")] {
            assert!(other.after(&token).is_err());
        }
        let changed = token.replace("31", "32");
        for bad in [changed.as_str(), "x", "zz", &token[1..], &token[..16], &format!("{token}0"), "ééééééééé"]
        {
            let failure = list.after(bad).expect_err(bad);
            assert_eq!(failure.fields[0].field, "page_token", "{bad}");
        }
    }

    #[test]
    fn a_page_is_within_bounds() {
        let size = Size { default: 50, most: 1000 };
        assert_eq!([0, 7, 5000].map(|asked| size.of(asked)), [Ok(50), Ok(7), Ok(1000)]);
        let failure = size.of(-1).expect_err("negative");
        assert_eq!(failure.message, "page_size: must not be negative, and is -1");
    }
}
