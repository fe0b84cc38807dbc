//! Messages ⇄ values, for the session and the unix socket. Pure; errors name the field by its path.

mod command;
mod report;
mod upkeep;
mod view;

pub(crate) use command::{
    command_key, read_choices, read_command, read_selection, write_choices, write_selection,
};
pub(crate) use report::{read_restore, write_refusal, write_report, write_restore};
pub(crate) use upkeep::{
    read_collected, read_drilled, read_repaired, write_collected, write_drilled, write_repaired,
};
pub(crate) use view::{
    Moment, PlanMessages, join_plan, read_plan, read_snapshot, split_plan, write_checks, write_components,
    write_health, write_plan, write_snapshot, write_snapshots, write_whole_plan,
};
