//! The engine and the commander on real files, with services that are real commands.

mod bed;

mod contract;

mod back;
mod full;
mod links;
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
