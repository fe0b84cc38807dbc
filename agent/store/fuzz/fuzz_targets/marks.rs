#![no_main]
//! Hostile bytes for the reader of marks.

rfs_store_fuzz::target!("marks");
