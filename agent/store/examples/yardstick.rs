//! What the machine itself needs for a tree: the least that any tool which does the same could take.
//!
//! `yardstick walk|read|hash PATH [THREADS]`, `yardstick copy PATH TO [THREADS]`: looks at each entry; reads each file;
//! reads and digests each file (BLAKE3); copies files, folders and links, without metadata and without sync.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = "yardstick walk|read|hash PATH [THREADS], or copy PATH TO [THREADS]";
    let [step, path, rest @ ..] = &words[..] else { return Err(usage.into()) };
    let (to, threads) = match (step.as_str(), rest) {
        ("copy", [to, rest @ ..]) => (Some(PathBuf::from(to)), rest.first()),
        (_, rest) => (None, rest.first()),
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = threads.map_or(Ok(cores), |threads| threads.parse())?;
    let begun = Instant::now();
    let from = Path::new(path);
    let mut found = Found::default();
    found.walk(from, to.as_deref(), from)?;
    let bytes = match step.as_str() {
        "walk" => 0,
        "read" => found.each(threads, |file, buffer| read(&mut File::open(file)?, buffer, |_| {}))?,
        "hash" => found.each(threads, |file, buffer| {
            let mut hasher = blake3::Hasher::new();
            let read = read(&mut File::open(file)?, buffer, |bytes| {
                hasher.update(bytes);
            })?;
            std::hint::black_box(hasher.finalize());
            Ok(read)
        })?,
        "copy" => {
            let to = to.ok_or(usage)?;
            found.each(threads, |file, _| Ok(fs::copy(file, to.join(file.strip_prefix(from)?))?))?
        }
        _ => return Err(usage.into()),
    };
    println!(
        "{step} {:.3} s, {threads} threads: {} entries, {} files, {bytes} bytes",
        begun.elapsed().as_secs_f64(),
        found.entries,
        found.files.len()
    );
    Ok(())
}

#[derive(Default)]
struct Found {
    entries: u64,
    files: Vec<PathBuf>,
}

impl Found {
    /// Looks at everything beneath a folder; where there is a `to`, makes its folders and links there.
    fn walk(&mut self, folder: &Path, to: Option<&Path>, from: &Path) -> Outcome<()> {
        let there = to.map(|to| Ok::<_, std::path::StripPrefixError>(to.join(folder.strip_prefix(from)?)));
        let there = there.transpose()?;
        if let Some(there) = &there {
            fs::create_dir_all(there)?;
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let kind = entry.metadata()?.file_type();
            self.entries += 1;
            if kind.is_dir() {
                self.walk(&path, to, from)?;
            } else if kind.is_symlink() {
                if let Some(there) = &there {
                    std::os::unix::fs::symlink(fs::read_link(&path)?, there.join(entry.file_name()))?;
                }
            } else if kind.is_file() {
                self.files.push(path);
            }
        }
        Ok(())
    }

    fn each(
        &self,
        threads: usize,
        work: impl Fn(&Path, &mut Vec<u8>) -> Outcome<u64> + Sync,
    ) -> Outcome<u64> {
        let next = AtomicUsize::new(0);
        let worker = || {
            let (mut buffer, mut sum) = (vec![0; 1 << 20], 0);
            while let Some(file) = self.files.get(next.fetch_add(1, Ordering::Relaxed)) {
                sum += work(file, &mut buffer)?;
            }
            Ok(sum)
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, Outcome<u64>>| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().map(join).sum()
        })
    }
}

fn read(file: &mut File, buffer: &mut [u8], mut each: impl FnMut(&[u8])) -> Outcome<u64> {
    let mut sum = 0;
    loop {
        match file.read(buffer)? {
            0 => return Ok(sum),
            count => {
                each(&buffer[..count]);
                sum += count as u64;
            }
        }
    }
}
