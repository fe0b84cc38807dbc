//! Parses values from stored text without copying the text first: histories are long, and full of names.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Takes text, and makes a value of it.
pub(crate) fn parsed<'de, D: Deserializer<'de>, T, E: fmt::Display>(
    deserializer: D,
    what: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    struct Text<T, F> {
        what: &'static str,
        parse: F,
        value: PhantomData<T>,
    }
    impl<T, E: fmt::Display, F: Fn(&str) -> Result<T, E>> Visitor<'_> for Text<T, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a {}", self.what)
        }

        fn visit_str<X: Error>(self, text: &str) -> Result<T, X> {
            (self.parse)(text).map_err(X::custom)
        }
    }
    deserializer.deserialize_str(Text { what, parse, value: PhantomData })
}
