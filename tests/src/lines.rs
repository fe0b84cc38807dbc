//! Lines of an input, read on a thread of its own: a program that obeys them waits for other things, too.

use std::io::{self, BufRead as _, BufReader, Read};

use tokio::sync::mpsc;

/// How many lines may wait.
const WAITING: usize = 16;

/// Reads until the input ends, or nobody wants more.
pub fn read(input: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        for line in BufReader::new(input).lines().map_while(io::Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
