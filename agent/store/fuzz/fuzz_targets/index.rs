#![no_main]
//! Hostile bytes for the reader of the index, and what is done with it once it is read.

rfs_store_fuzz::target!("index");
