#![no_main]
//! Hostile bytes for the reader of lists of further staging folders.

rfs_store_fuzz::target!("yards");
