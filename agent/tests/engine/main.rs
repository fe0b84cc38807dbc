//! The engine and the commander on real files, with services that are real commands.

mod bed;

mod contract;

mod attributes;
mod back;
mod busy;
mod full;
mod kinds;
mod links;
mod mounted;
mod ordinary;
mod restore;
mod space;
mod subvolumes;
mod taken;

mod keep;

mod checkpoint;
mod clocks;
mod commands;
mod health;
mod stop;
