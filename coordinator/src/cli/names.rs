//! Ids as people type them: whole, or so much of them as is unique, or `latest`.

use rfs_link::Failure;
use rfs_model::Reason;
use rfs_proto::v1::{self, checkpoint};
use uuid::Uuid;

use super::connect::{Client, soon};
use super::words::{self, paint};

/// A page as large as the server gives.
const PAGE: i32 = 1000;

/// Reads how many items a list has at most.
pub(super) fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a list of nothing is not meant: give 1 or more".to_owned()),
        Ok(limit) => Ok(limit),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}

/// The name of the checkpoint that `text` means; `latest` is the newest complete one.
pub(super) async fn checkpoint(client: &Client, text: &str) -> Result<String, Failure> {
    let text = text.strip_prefix("checkpoints/").unwrap_or(text);
    if Uuid::try_parse(text).is_ok() {
        return Ok(format!("checkpoints/{text}"));
    }
    let mut search = Search::new("checkpoint", text, Reason::CheckpointNotFound)?;
    let mut page_token = String::new();
    loop {
        let request = v1::ListCheckpointsRequest { page_size: PAGE, page_token, ..Default::default() };
        let page = client.answer(client.checkpoints().list_checkpoints(soon(request)).await)?;
        for candidate in page.checkpoints {
            let offered = text != "latest" || candidate.state() == checkpoint::State::Complete;
            if offered && search.takes(candidate.name) {
                return search.end();
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return search.end();
        }
    }
}

/// The name of the rollback that `text` means; `latest` is the newest.
pub(super) async fn rollback(client: &Client, text: &str) -> Result<String, Failure> {
    let text = text.strip_prefix("rollbacks/").unwrap_or(text);
    if Uuid::try_parse(text).is_ok() {
        return Ok(format!("rollbacks/{text}"));
    }
    let mut search = Search::new("rollback", text, Reason::RollbackNotFound)?;
    let mut page_token = String::new();
    loop {
        let request = v1::ListRollbacksRequest { page_size: PAGE, page_token };
        let page = client.answer(client.rollbacks().list_rollbacks(soon(request)).await)?;
        for candidate in page.rollbacks {
            if search.takes(candidate.name) {
                return search.end();
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return search.end();
        }
    }
}

/// Looks through names, newest first, for those that `text` means.
struct Search<'t> {
    what: &'static str,
    text: &'t str,
    missing: Reason,
    found: Vec<String>,
}

impl<'t> Search<'t> {
    fn new(what: &'static str, text: &'t str, missing: Reason) -> Result<Self, Failure> {
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if text != "latest" && (text.is_empty() || !digits) {
            let message = format!("{text:?} is not a {what}: give its id, the beginning of it, or latest");
            return Err(Failure::new(Reason::InvalidArgument, message)
                .next(format!("see the {what}s with: rfs {what} list")));
        }
        Ok(Self { what, text, missing, found: Vec::new() })
    }

    /// Takes the name if it is meant; true when no further one needs to be looked at.
    fn takes(&mut self, name: String) -> bool {
        if self.text == "latest" || words::id(&name).starts_with(&self.text.to_lowercase()) {
            self.found.push(name);
        }
        self.found.len() == if self.text == "latest" { 1 } else { 9 }
    }

    fn end(mut self) -> Result<String, Failure> {
        let Self { what, text, .. } = self;
        match self.found.len() {
            1 => Ok(self.found.remove(0)),
            0 if text == "latest" && what == "checkpoint" => {
                Err(Failure::new(self.missing, "there is no complete checkpoint yet")
                    .next("take one with: rfs checkpoint create"))
            }
            0 if text == "latest" => Err(Failure::new(self.missing, format!("there is no {what} yet"))),
            0 => Err(Failure::new(self.missing, format!("no {what} starts with {text}"))),
            many => {
                let ids: Vec<_> = self.found.iter().take(3).map(|name| words::id(name)).collect();
                let more = if many > 3 { ", …" } else { "" };
                let message = format!("{text} is the beginning of {many} {what}s: {}{more}", ids.join(", "));
                Err(Failure::new(Reason::InvalidArgument, message).next("give more of the id"))
            }
        }
    }
}

/// Shows ids so that the part that must be typed stands out: the shortest that no other one begins with.
pub(super) fn mark_unique<'a>(ids: &[&'a str]) -> impl Iterator<Item = String> + use<'a> {
    let mut sorted: Vec<&str> = ids.to_vec();
    sorted.sort_unstable();
    let needed = |id: &str| {
        let place = sorted.partition_point(|other| *other < id);
        let beside = [place.checked_sub(1), Some(place + 1)].into_iter().flatten();
        let neighbours = beside.filter_map(|place| sorted.get(place));
        let common =
            neighbours.map(|other| id.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count());
        (common.max().unwrap_or(0) + 1).clamp(4, id.len().max(4)).min(id.len())
    };
    let marked: Vec<_> = ids.iter().map(|id| (*id, needed(id))).collect();
    marked
        .into_iter()
        .map(|(id, needed)| format!("{}{}", paint::label(&id[..needed]), paint::faint(&id[needed..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, names: &[&str], expected: &str) {
        let found = Search::new("rollback", text, Reason::RollbackNotFound).and_then(|mut search| {
            for name in names {
                if search.takes((*name).to_owned()) {
                    break;
                }
            }
            search.end()
        });
        assert_eq!(found.unwrap_or_else(|failure| failure.message), expected, "{text}");
    }

    #[test]
    fn the_beginning_of_an_id_is_enough_when_it_is_unique() {
        let names = ["rollbacks/0193c", "rollbacks/0193b", "rollbacks/0192a"];
        check("0193b", &names, "rollbacks/0193b");
        check("0192", &names, "rollbacks/0192a");
        check("0192A", &names, "rollbacks/0192a");
        check("latest", &names, "rollbacks/0193c");
        check("0193", &names, "0193 is the beginning of 2 rollbacks: 0193c, 0193b");
        check("ff", &names, "no rollback starts with ff");
        check("latest", &[], "there is no rollback yet");
        check("web-1", &names, "\"web-1\" is not a rollback: give its id, the beginning of it, or latest");
        check("", &names, "\"\" is not a rollback: give its id, the beginning of it, or latest");
    }

    #[test]
    fn the_part_that_must_be_typed_is_marked() {
        let marked = mark_unique(&["0193b5a0-1", "0193b5a0-2", "0207"]).next().unwrap_or_default();
        assert_eq!(marked, format!("{}{}", paint::label("0193b5a0-1"), paint::faint("")));
        let marked = mark_unique(&["0193b5a0-1", "0207b5a0-2"]).next().unwrap_or_default();
        assert_eq!(marked, format!("{}{}", paint::label("0193"), paint::faint("b5a0-1")));
    }
}
