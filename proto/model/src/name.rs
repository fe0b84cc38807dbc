//! The one rule for names that people type and that end up in paths, URIs and labels.

/// A name that breaks the rule, with what the rule is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {rule}")]
pub struct NameError {
    /// What the name was for, such as `host name`.
    pub what: &'static str,
    /// The text as it was given.
    pub text: String,
    /// The rule in words.
    pub rule: &'static str,
}

const RULE: &str = "use 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-', starting with a letter or a digit";

pub(crate) fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    let error = || NameError { what, text: text.chars().take(80).collect(), rule: RULE };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if !starts_well || text.len() > 63 || !text.bytes().all(allowed) {
        return Err(error());
    }
    Ok(())
}

/// Makes a string type whose every value keeps the rule of [`check`].
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks `text` and takes it as a name.
            pub fn new(text: &str) -> Result<Self, $crate::name::NameError> {
                $crate::name::check($what, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::name::NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::text::parsed(deserializer, $what, Self::new)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::name::NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}
pub(crate) use name;
