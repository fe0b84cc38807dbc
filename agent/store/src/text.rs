//! Bytes as text that loses nothing: names and attributes are bytes, while journals and screens hold text.
//!
//! Printable UTF-8 stands for itself; `%`, control characters and bytes that are not UTF-8 become `%` and two
//! hexadecimal digits. So a name cannot move a terminal's cursor, and reads back to the same bytes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are written as text and read back unchanged: a path, a name, an attribute's value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteText(pub Vec<u8>);

/// Writes bytes as text.
pub fn encode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(is_escaped) => Cow::Borrowed(text),
        _ => Cow::Owned(encode_slowly(bytes)),
    }
}

fn encode_slowly(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match is_escaped(character) {
                true => character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape(&mut text, byte)),
                false => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|&byte| escape(&mut text, byte));
    }
    text
}

fn is_escaped(character: char) -> bool {
    character == '%' || character.is_control()
}

fn escape(text: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(HEX[usize::from(byte >> 4)]));
    text.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Reads bytes from what [`encode`] wrote. `None`: a `%` is not followed by two hexadecimal digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let ([high, low], tail) = rest.split_first_chunk::<2>()?;
        let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = tail;
    }
    Some(bytes)
}

impl fmt::Display for ByteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&encode(&self.0))
    }
}

impl fmt::Debug for ByteText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", encode(&self.0))
    }
}

impl From<&[u8]> for ByteText {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Serialize for ByteText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for ByteText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

/// For `#[serde(with = "crate::text")]` on bytes.
pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(bytes))
}

/// For `#[serde(with = "crate::text")]` on bytes.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    decode(&text)
        .ok_or_else(|| serde::de::Error::custom("a % that is not followed by two hexadecimal digits"))
}

/// For `#[serde(with = "crate::text::pairs")]` on names with values.
pub mod pairs {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{ByteText, encode};

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    /// Writes each pair as two texts.
    pub fn serialize<S: Serializer>(pairs: &[(Vec<u8>, Vec<u8>)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(pairs.iter().map(|(name, value)| (encode(name), encode(value))))
    }

    /// Reads what [`serialize`] wrote.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        let pairs = Vec::<(ByteText, ByteText)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().map(|(name, value)| (name.0, value.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_as_they_were_written() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&b""[..], b"a b", "käse/ß".as_bytes(), b"100%", b"a\xffb\n", &all] {
            assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
            let json = serde_json::to_string(&ByteText::from(bytes)).expect("text is JSON");
            assert_eq!(serde_json::from_str::<ByteText>(&json).expect("what was written").0, bytes);
        }
    }

    #[test]
    fn only_what_would_be_lost_or_harmful_is_escaped() {
        assert_eq!(encode("käse 1".as_bytes()), "käse 1");
        assert_eq!(encode(b"50%\x1b[2J\xff"), "50%25%1B[2J%FF");
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["%", "%4", "%zz", "a%-1"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
