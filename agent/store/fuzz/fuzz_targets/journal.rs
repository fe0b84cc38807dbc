#![no_main]
//! Hostile bytes for the reader of the journal.

rfs_store_fuzz::target!("journal");
