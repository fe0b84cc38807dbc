//! Follows a stream to its end, through breaks of the connection, until the person has seen enough.

use std::io::{self, Write as _};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use rfs_link::{Exit, Failure};
use rfs_model::time::SystemClock;
use rfs_model::{Clock as _, Reason};
use rfs_proto::watch::Held;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::connect::Client;
use super::error::CliError;
use super::output::Output;
use super::progress::{Screen, Watched};

/// How a coordinator that went away is waited for: it resumes where it was, and so does the watching.
const GIVE_UP: Duration = Duration::from_secs(120);
/// How often a picture is drawn anew for the time that has passed.
const TICK: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is printed while waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Every state: a picture, lines of changes, or a document each.
    Everything,
    /// For programs, the last state alone.
    LastDocument,
}

/// Shows what `open` streams until it has a verdict. `next` is what to type to go on watching after an interruption.
pub(super) async fn watch<W: Watched>(
    client: &Client,
    output: &mut Output,
    shown: Shown,
    next: &str,
    open: impl AsyncFn() -> Result<tonic::Response<Streaming<W>>, Status>,
) -> Result<(W, Exit), CliError> {
    let mut view = View::new(output, shown);
    let mut last: Option<W> = None;
    let mut lost = Lost::default();
    loop {
        let broken = tokio::select! {
            broken = follow(&open, &mut view, &mut last, &mut lost) => broken?,
            () = interrupted() => return Err(CliError::Interrupted { next: next.to_owned() }),
        };
        let failure = match (broken, last.as_ref().and_then(Watched::verdict)) {
            (_, Some(exit)) => {
                let last = last.unwrap_or_default();
                view.close(&last)?;
                return Ok((last, exit));
            }
            (Some(status), None) => client.failure(&status),
            (None, None) => Failure::new(Reason::Unreachable, "the coordinator ended the stream"),
        };
        if lost.is_new() && may_pass(&failure) {
            view.note("the connection to the coordinator is lost; trying again");
        }
        let pause = lost.pause(failure, next)?;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = interrupted() => return Err(CliError::Interrupted { next: next.to_owned() }),
        }
    }
}

/// Follows one stream until it has a verdict or breaks.
async fn follow<W: Watched>(
    open: &impl AsyncFn() -> Result<tonic::Response<Streaming<W>>, Status>,
    view: &mut View<'_>,
    last: &mut Option<W>,
    lost: &mut Lost,
) -> Result<Option<Status>, CliError> {
    let mut stream = match open().await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(Some(status)),
    };
    let mut held = Held::default();
    loop {
        let next = tokio::select! {
            next = stream.message() => next,
            // While nothing changes, time passes all the same.
            () = tokio::time::sleep(TICK), if view.is_live() => {
                last.as_ref().map_or(Ok(()), |last| view.redraw(last))?;
                continue;
            }
        };
        let message = match next {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(status) => return Ok(Some(status)),
        };
        *lost = Lost::default();
        let Some(new) = held.take(message) else { continue };
        view.show(new, last.as_ref())?;
        let over = new.verdict().is_some();
        *last = Some(new.clone());
        if over {
            return Ok(None);
        }
    }
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether the same call may succeed later with nothing changed.
fn may_pass(failure: &Failure) -> bool {
    matches!(failure.reason, Reason::Unreachable | Reason::Overloaded | Reason::Cancelled)
}

/// A connection that is gone, and since when.
#[derive(Debug, Default)]
struct Lost {
    since: Option<Instant>,
    pause: Duration,
}

impl Lost {
    fn is_new(&self) -> bool {
        self.since.is_none()
    }

    /// How long to wait before the next try, unless there is no sense in one.
    fn pause(&mut self, failure: Failure, next: &str) -> Result<Duration, CliError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if !may_pass(&failure) {
            return Err(failure.into());
        }
        if since.elapsed() > GIVE_UP {
            let again = format!("when it is back, go on watching with: {next}");
            return Err(if next.is_empty() { failure } else { failure.next(again) }.into());
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        Ok(self.pause)
    }
}

/// Prints states as they come.
struct View<'o> {
    output: &'o mut Output,
    shown: Shown,
    screen: Option<Screen>,
}

impl<'o> View<'o> {
    fn new(output: &'o mut Output, shown: Shown) -> Self {
        let screen = output.is_live().then(Screen::new);
        Self { output, shown, screen }
    }

    /// Whether a picture changes in place.
    fn is_live(&self) -> bool {
        self.screen.is_some()
    }

    fn show<W: Watched>(&mut self, new: &W, before: Option<&W>) -> io::Result<()> {
        if self.output.is_json() {
            return match self.shown {
                Shown::Everything => self.output.message_line(new),
                Shown::LastDocument => Ok(()),
            };
        }
        if self.is_live() {
            return self.redraw(new);
        }
        let now = DateTime::from_timestamp_millis(SystemClock.now().0).unwrap_or_default();
        new.changes(before).iter().try_for_each(|told| {
            let at = told.at.and_then(|at| DateTime::from_timestamp(at.seconds, 0));
            let time = at.unwrap_or(now).to_rfc3339_opts(SecondsFormat::Secs, true);
            self.output.line(format!("{time}  {}", told.text))
        })
    }

    fn redraw<W: Watched>(&mut self, last: &W) -> io::Result<()> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        screen.draw(&last.picture(screen.height(), SystemClock.now()))
    }

    /// Says something beside, on standard error.
    fn note(&mut self, text: &str) {
        // That it cannot be said is no reason to stop watching.
        let _ = writeln!(anstream::stderr(), "{}", rfs_link::plain::line(text));
        // The next picture is drawn below, not over it.
        self.screen = self.screen.take().map(|_| Screen::new());
    }

    fn close<W: Watched>(&mut self, last: &W) -> io::Result<()> {
        match (self.output.is_json(), self.shown) {
            (true, Shown::LastDocument) => self.output.message(last),
            (true, Shown::Everything) => Ok(()),
            (false, _) => last.closing().iter().try_for_each(|line| self.output.line(line)),
        }
    }
}
