#![no_main]
//! Hostile bytes for the reader of manifests.

rfs_store_fuzz::target!("manifest");
