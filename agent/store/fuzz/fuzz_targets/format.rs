#![no_main]
//! Hostile bytes for the reader of the file `format`.

rfs_store_fuzz::target!("format");
