//! `rfs-agent restore --plan --all`: a plan of any size, printed as it comes.

use rfs_link::Exit;
use serde_json::Value;

use super::Ended;
use super::door::Door;
use super::output::Output;
use super::restore::{extras, plan_document, show_sum, step_document};
use crate::commander::Selection;
use crate::component::choices::Choices;
use crate::local::{PlanPart, PlanView};

pub(super) fn run(
    door: &Door,
    snapshot: &str,
    (selection, choices): (&Selection, &Choices),
    output: &Output,
) -> Ended {
    let mut printer = Printer { output, whole: PlanView::default(), steps: 0, losses: 0 };
    door.administration().plan_all(snapshot, selection, choices, &mut |part| printer.take(part))?;
    printer.end();
    match printer.whole.obstacle {
        Some(obstacle) => Err(obstacle),
        None => Ok(Exit::Done),
    }
}

/// Prints each part when it comes. Nothing of a plan is kept but its sums.
struct Printer<'o> {
    output: &'o Output,
    whole: PlanView,
    steps: u64,
    losses: u64,
}

impl Printer<'_> {
    fn take(&mut self, part: PlanPart) {
        let is_json = self.output.is_json();
        match part {
            PlanPart::Whole(whole) => {
                self.whole = whole;
                if is_json {
                    self.output.part("{\"steps\": [");
                }
            }
            PlanPart::Step(step) => {
                if is_json {
                    self.output.part(&format!("{}\n  {}", comma(self.steps), step_document(&step)));
                } else {
                    self.output.line(&step.text);
                }
                self.steps += 1;
            }
            PlanPart::Loss(path) => {
                if self.losses == 0 {
                    self.begin_losses();
                }
                if is_json {
                    self.output.part(&format!("{}\n  {}", comma(self.losses), Value::from(path)));
                } else {
                    self.output.field("", path);
                }
                self.losses += 1;
            }
        }
    }

    /// The steps have ended.
    fn begin_losses(&self) {
        if self.output.is_json() {
            return self.output.part("],\n\"losses\": [");
        }
        show_sum(&self.whole, self.output);
        let (count, bytes) = (extras(self.whole.loss_count), self.whole.loss_bytes);
        self.output.field("removed", format_args!("{count}, {bytes}"));
    }

    fn end(&self) {
        if self.output.is_json() {
            if self.losses == 0 {
                self.begin_losses();
            }
            let mut rest = plan_document(&self.whole);
            for lines in ["steps", "losses"] {
                rest.as_object_mut().expect("a plan is an object").remove(lines);
            }
            // What is left of the object follows its two lists.
            let rest = rest.to_string();
            return self.output.part(&format!("],\n{}\n", &rest[1..]));
        }
        match (self.steps, self.losses, &self.whole.obstacle) {
            (0, _, None) => self.output.line("nothing to do: the host is at that snapshot"),
            (0, _, Some(_)) => {}
            (_, 0, _) => show_sum(&self.whole, self.output),
            _ => {
                let how = "the restore's backup keeps them; leave some in place with --keep PATTERN";
                self.output.field("", how);
            }
        }
        self.output.notes(&self.whole.notes);
    }
}

fn comma(before: u64) -> &'static str {
    if before == 0 { "" } else { "," }
}
