#![no_main]
//! Hostile bytes for what a restore makes of a segment.

rfs_store_fuzz::target!("tree");
