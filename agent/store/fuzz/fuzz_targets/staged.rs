#![no_main]
//! Hostile bytes for the reader of what a journal keeps of a restore.

rfs_store_fuzz::target!("staged");
