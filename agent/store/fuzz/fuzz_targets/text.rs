#![no_main]
//! Hostile bytes for the reader of escaped text.

rfs_store_fuzz::target!("text");
