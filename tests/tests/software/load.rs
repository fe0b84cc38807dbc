//! Clients that ask a service all the time, each time with a new connection, and count every outcome by its kind.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rfs_tests::wait::until;

/// The service is down: nobody listens, or what listened went away with the question.
pub(crate) const DOWN: &str = "down";

/// Outcomes in the order in which they came, each with how often it came in a row.
type Runs = Vec<(String, u64)>;

/// A client at work until it is dropped.
pub(crate) struct Load {
    runs: Arc<Mutex<Runs>>,
    is_over: Arc<AtomicBool>,
    client: Option<JoinHandle<()>>,
}

impl Load {
    /// Does `once` again and again, which tells its outcome.
    pub(crate) fn of(mut once: impl FnMut(u64) -> String + Send + 'static) -> Self {
        let (runs, is_over) = (Arc::<Mutex<Runs>>::default(), Arc::<AtomicBool>::default());
        let (noted, over) = (runs.clone(), is_over.clone());
        let client = thread::spawn(move || {
            for number in 0.. {
                if over.load(Ordering::Acquire) {
                    break;
                }
                let outcome = once(number);
                let mut runs = noted.lock().unwrap_or_else(PoisonError::into_inner);
                match runs.last_mut().filter(|(last, _)| *last == outcome) {
                    Some((_, count)) => *count += 1,
                    None => runs.push((outcome, 1)),
                }
            }
        });
        Self { runs, is_over, client: Some(client) }
    }

    /// Asks for a page.
    pub(crate) fn http(address: SocketAddr, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.0\r\nhost: site\r\n\r\n");
        Self::of(move |_| ask(address, &request))
    }

    /// Waits until an outcome comes again, so that what is begun next is begun under load.
    #[track_caller]
    pub(crate) fn await_outcome(&self, outcome: &str) {
        let before = self.count(outcome);
        until(&format!("a client has {outcome:?}"), || (self.count(outcome) > before + 2).then_some(()));
    }

    fn count(&self, outcome: &str) -> u64 {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.iter().filter(|(seen, _)| seen == outcome).map(|(_, count)| count).sum()
    }

    /// Waits for `after`, and forgets what came until now: `before`, then `after`, and at most one time of being down.
    #[track_caller]
    pub(crate) fn saw(&self, before: &str, after: &str) {
        self.await_outcome(after);
        let runs = std::mem::take(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner));
        let downs = runs.iter().filter(|(outcome, _)| outcome == DOWN).count();
        let mut answers: Vec<_> = runs.iter().map(|(outcome, _)| outcome.as_str()).collect();
        answers.retain(|outcome| *outcome != DOWN);
        answers.dedup();
        let is_so = downs <= 1 && (answers == [before, after] || answers == [after]);
        assert!(is_so, "not {before:?}, then {after:?}, and down once at most: {runs:?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(client) = self.client.take() {
            let _ = client.join();
        }
    }
}

/// Asks once: the status and the first line of what was answered, such as `200 v1`; of an error the status alone.
pub(crate) fn ask(address: SocketAddr, request: &str) -> String {
    match exchange(address, request.as_bytes()) {
        Ok(answer) => {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let status = head.split(' ').nth(1).unwrap_or("no status");
            match status {
                "200" => format!("200 {}", body.lines().next().unwrap_or_default()),
                status => status.to_owned(),
            }
        }
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => DOWN.to_owned(),
            kind => kind.to_string(),
        },
    }
}

/// The whole answer. One without a byte, or with fewer than it says, is an end of the connection.
fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<String> {
    let limit = Duration::from_secs(20);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    match length.is_some_and(|length: usize| body.len() < length) {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(answer),
    }
}
