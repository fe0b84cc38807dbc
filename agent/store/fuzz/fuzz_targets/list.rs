#![no_main]
//! Hostile bytes for the reader of lists of segments.

rfs_store_fuzz::target!("list");
