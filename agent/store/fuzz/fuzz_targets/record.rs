#![no_main]
//! Hostile bytes for the reader of records of objects, and their decompression.

rfs_store_fuzz::target!("record");
