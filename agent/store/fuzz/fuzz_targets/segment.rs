#![no_main]
//! Hostile bytes for the reader of segments.

rfs_store_fuzz::target!("segment");
