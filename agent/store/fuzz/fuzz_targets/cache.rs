#![no_main]
//! Hostile bytes for the reader of stat caches, and what a walk asks of them.

rfs_store_fuzz::target!("cache");
