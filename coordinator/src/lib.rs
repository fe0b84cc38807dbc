//! The coordinator: server, operator API and command line.

pub mod config;

pub mod api;
