#![no_main]
//! Hostile bytes for the reader of names of packs, snapshots and staging folders.

rfs_store_fuzz::target!("names");
