//! Writes and reads the state of an operation as text; it is kept beside the history so that nobody has to replay all of it.
//!
//! It is a shortcut and no more: text that this version did not write, or cannot read, is no state, and the history is replayed.

use crate::operation::Operation;

impl Operation {
    /// The version of the state: raised with every change of its shape, and of what an event makes of it. A state of another
    /// version is not read: the history is, from its beginning.
    pub const STATE: u32 = 2;

    /// The state as text.
    ///
    /// # Panics
    /// Never: a state has no map with other keys than text.
    pub fn to_kept(&self) -> String {
        let mut text = format!("{} ", Self::STATE).into_bytes();
        serde_json::to_writer(&mut text, self).expect("a state has no map with other keys than text");
        String::from_utf8(text).expect("JSON is text")
    }

    /// The operation whose state the text is; none if it is not one of this version.
    pub fn from_kept(text: &str) -> Option<Self> {
        let (version, state) = text.split_once(' ')?;
        if version.parse() != Ok(Self::STATE) {
            return None;
        }
        serde_json::from_str(state).ok()
    }
}
