//! The coordinator: server, operator API and command line.

pub mod config;

pub mod store;

pub mod driver;

pub mod hub;

pub mod api;

pub mod serve;

pub mod cli;
