#![no_main]
//! Hostile bytes for the reader of whole packs: header, records, footer, and records without a footer.

rfs_store_fuzz::target!("pack");
