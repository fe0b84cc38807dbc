//! The real program on a real host, typed as an administrator types it.

mod host;

mod answers;
mod keeping;
mod killed;
mod losses;
mod moments;
