//! Decides where the coordinator's time begins, so that a machine's clock that is set changes no deadline.
//!
//! ```text
//!  nothing is open                     ─▶ the machine's clock, anchored anew
//!  open, and the machine was up since  ─▶ the anchor + how long the machine was up since       (its clock is not asked)
//!  open, after a boot                  ─▶ the later one of the machine's clock and the newest stored event, anchored anew
//! ```
//!
//! From there on time is a [`SteadyClock`]: it goes on as time passes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rfs_model::time::{SharedClock, SteadyClock};
use rfs_model::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store::{Anchor, Store, StoreError};

/// How far the coordinator's time may be from the machine's clock before that is logged.
const NOTABLE: Duration = Duration::from_secs(60);

/// A moment of a machine's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The id of the boot; none if the machine does not say.
    pub boot: Option<String>,
    /// How long the machine is up.
    pub uptime: Duration,
    /// What the machine's clock shows.
    pub wall: Timestamp,
}

impl Moment {
    /// This moment, by `clock` and what the kernel says.
    pub fn now(clock: &dyn Clock) -> Self {
        let read = |path: &str| fs::read_to_string(Path::new("/proc").join(path)).ok();
        let uptime = read("uptime").and_then(|text| parse_uptime(&text));
        let boot = read("sys/kernel/random/boot_id").map(|text| text.trim().to_owned());
        Self {
            // Without an uptime the boot says nothing.
            boot: boot.filter(|boot| !boot.is_empty() && uptime.is_some()),
            uptime: uptime.unwrap_or_default(),
            wall: clock.now(),
        }
    }
}

/// Reads `/proc/uptime`: seconds since the boot, with the time that the machine slept, then something else.
fn parse_uptime(text: &str) -> Option<Duration> {
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Where time begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// What the coordinator's clock shows.
    pub time: Timestamp,
    /// Whether that is to be anchored: it does not go on from the anchor that is stored.
    pub anew: bool,
}

/// Decides where time begins. `newest_open` is the newest time in the histories of the operations that have something left to
/// do; none if there is no such operation.
pub fn beginning(anchor: Option<&Anchor>, moment: &Moment, newest_open: Option<Timestamp>) -> Beginning {
    let Some(newest) = newest_open else { return Beginning { time: moment.wall, anew: true } };
    let same_boot = anchor.filter(|anchor| moment.boot.as_ref() == Some(&anchor.boot));
    let since = same_boot.and_then(|anchor| Some((anchor, moment.uptime.checked_sub(anchor.uptime)?)));
    match since {
        // Time never goes back before what is stored, be it by the rounding of an uptime.
        Some((anchor, since)) => Beginning { time: anchor.time.plus(since).max(newest), anew: false },
        None => Beginning { time: moment.wall.max(newest), anew: true },
    }
}

/// Begins time, and anchors it if it begins anew.
pub(crate) async fn begin(store: &dyn Store, moment: Moment) -> Result<SteadyClock, StoreError> {
    let anchor = store.timeline().await?;
    let Beginning { time, anew } = beginning(anchor.as_ref(), &moment, store.newest_open_time().await?);
    let clock = SteadyClock::starting_at(time);
    let ahead_ms = time.0.saturating_sub(moment.wall.0);
    if notable(ahead_ms) {
        warn!(ahead_ms, time = %time, machine = %moment.wall,
            "the machine's clock was set while operations were open; their time goes on as it was until none is open at a start");
    }
    if anew && let Some(boot) = moment.boot {
        store.anchor_timeline(Anchor { boot, uptime: moment.uptime, time }).await?;
    }
    Ok(clock)
}

/// Says when the machine's clock is another than the coordinator's time by more than a minute, and again each time that this
/// difference has changed by as much; until `stop` is cancelled.
pub(crate) async fn compare(clock: SharedClock, machine: SharedClock, stop: CancellationToken) {
    let difference = || clock.now().0.saturating_sub(machine.now().0);
    let mut told = difference();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(NOTABLE) => {}
        }
        let ahead_ms = difference();
        if notable(ahead_ms.saturating_sub(told)) {
            warn!(
                ahead_ms,
                "the machine's clock was set; the coordinator's time goes on as it was until it is started with nothing open"
            );
            told = ahead_ms;
        }
    }
}

fn notable(milliseconds: i64) -> bool {
    u128::from(milliseconds.unsigned_abs()) > NOTABLE.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn moment(boot: &str, uptime: u64, wall: i64) -> Moment {
        Moment { boot: Some(boot.to_owned()), uptime: Duration::from_secs(uptime), wall: Timestamp(wall) }
    }

    fn anchor() -> Anchor {
        Anchor { boot: "b1".to_owned(), uptime: Duration::from_secs(100), time: Timestamp(10 * HOUR) }
    }

    #[test]
    fn a_clock_that_is_set_between_two_starts_changes_nothing_while_something_is_open() {
        let newest = Some(Timestamp(10 * HOUR + 5_000));
        for wall in [9 * HOUR, 10 * HOUR, 11 * HOUR, 0] {
            let begun = beginning(Some(&anchor()), &moment("b1", 160, wall), newest);
            assert_eq!(begun, Beginning { time: Timestamp(10 * HOUR + 60_000), anew: false }, "{wall}");
        }
    }

    #[test]
    fn time_does_not_go_back_before_what_is_stored() {
        let newest = Timestamp(10 * HOUR + 60_004);
        let begun = beginning(Some(&anchor()), &moment("b1", 160, 0), Some(newest));
        assert_eq!(begun, Beginning { time: newest, anew: false });
        for wall in [9 * HOUR, 12 * HOUR] {
            let begun = beginning(Some(&anchor()), &moment("b2", 20, wall), Some(newest));
            let later = Timestamp(wall).max(newest);
            assert_eq!(begun, Beginning { time: later, anew: true }, "after a boot");
        }
    }

    #[test]
    fn with_nothing_open_time_begins_anew_at_the_clock() {
        for wall in [9 * HOUR, 12 * HOUR] {
            let begun = beginning(Some(&anchor()), &moment("b1", 160, wall), None);
            assert_eq!(begun, Beginning { time: Timestamp(wall), anew: true });
        }
        assert_eq!(beginning(None, &moment("b1", 1, 5), None), Beginning { time: Timestamp(5), anew: true });
    }

    #[test]
    fn an_anchor_that_says_nothing_is_not_used() {
        let newest = Some(Timestamp(HOUR));
        let anew = Beginning { time: Timestamp(2 * HOUR), anew: true };
        assert_eq!(beginning(None, &moment("b1", 160, 2 * HOUR), newest), anew, "there is none");
        let unknown = Moment { boot: None, ..moment("", 160, 2 * HOUR) };
        assert_eq!(beginning(Some(&anchor()), &unknown, newest), anew, "the boot is not known");
        let before = moment("b1", 99, 2 * HOUR);
        assert_eq!(beginning(Some(&anchor()), &before, newest), anew, "an uptime before the anchor's");
    }

    #[test]
    fn a_difference_of_more_than_a_minute_is_told_whichever_way_the_clock_was_set() {
        assert_eq!([60_001, -60_001, i64::MIN].map(notable), [true; 3]);
        assert_eq!([60_000, -60_000, 0].map(notable), [false; 3]);
    }

    #[test]
    fn the_kernel_says_how_long_the_machine_is_up() {
        assert_eq!(parse_uptime("350735.47 234388.90\n"), Some(Duration::from_millis(350_735_470)));
        assert_eq!(parse_uptime(""), None);
        assert_eq!(parse_uptime("-1 0"), None);
    }
}
