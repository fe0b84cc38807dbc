//! The command line as it was typed, changed so that it shows what it would do: it can be pasted.

use rfs_link::plain;

/// Options of `start` that take a value and that a plan does not have.
const WITH_VALUE: [&str; 2] = ["--reason", "--request-id"];
/// Options of `start` that stand alone and that a plan does not have.
const ALONE: [&str; 3] = ["--no-wait", "--yes", "-y"];

/// `rfs rollback plan` with what was typed after `rfs rollback start`. `words` are the command line without the program.
pub(super) fn plan_of_start(words: impl IntoIterator<Item = String>) -> String {
    let mut shown = vec!["rfs".to_owned()];
    let mut words = words.into_iter();
    let mut is_replaced = false;
    while let Some(word) = words.next() {
        let option = word.split_once('=').map_or(word.as_str(), |(option, _)| option);
        match option {
            "start" if !is_replaced => {
                is_replaced = true;
                shown.push("plan".to_owned());
            }
            option if WITH_VALUE.contains(&option) => {
                // The value of `--reason=x` is part of the word.
                if option == word {
                    words.next();
                }
            }
            option if ALONE.contains(&option) => {}
            _ => shown.push(plain::word(&word).into_owned()),
        }
    }
    shown.join(" ")
}

/// What was typed after `rfs`, with `--plan`.
pub(super) fn plan_of_undo(words: impl IntoIterator<Item = String>) -> String {
    let words = words.into_iter().map(|word| plain::word(&word).into_owned());
    let shown = std::iter::once("rfs".to_owned()).chain(words).chain(std::iter::once("--plan".to_owned()));
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_plan_of_what_was_typed_keeps_what_a_plan_knows() {
        let check = |line: &[&str], expected: &str| assert_eq!(plan_of_start(words(line)), expected);
        check(
            &["rollback", "start", "--checkpoint", "latest", "--host", "web-1", "--no-wait"],
            "rfs rollback plan --checkpoint latest --host web-1",
        );
        check(
            &[
                "--output",
                "text",
                "rollback",
                "start",
                "--reason",
                "bad start",
                "--checkpoint=0193",
                "--path",
                "/srv/a b",
            ],
            "rfs --output text rollback plan --checkpoint=0193 --path '/srv/a b'",
        );
        check(
            &["rollback", "start", "--reason=x", "--request-id=y", "--checkpoint", "it's"],
            r"rfs rollback plan --checkpoint 'it'\''s'",
        );
    }

    #[test]
    fn an_undo_that_was_typed_can_be_planned_for_the_same_hosts() {
        assert_eq!(
            plan_of_undo(words(&["rollback", "undo", "latest", "--host", "web-1"])),
            "rfs rollback undo latest --host web-1 --plan"
        );
    }
}
