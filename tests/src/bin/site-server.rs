//! A small real web service for the suites and the demo: it serves a release from disk, daemonises, and can be broken.
//!
//! ```text
//! site-server start|stop|status|serve --root FOLDER --listen ADDRESS --pid-file FILE
//! ```
//!
//! `GET /` answers with the `index.html` that was there when it started, so that only a restart brings a new release.
//! `GET /healthz` answers 200 while `health.txt` says `ok`, and 503 otherwise; `ok for 4` is well for the first four seconds
//! after a start.
//!
//! Each start and each stop that found something to do adds a line to a file beside FILE, with the ending `.log`, so that they can be counted.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a start or a stop may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What `status` exits with when the service does not run, as `systemctl status` does.
const NOT_RUNNING: u8 = 3;

struct Site {
    root: PathBuf,
    listen: SocketAddr,
    pid_file: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("site-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|a| a == name).with_context(|| format!("{name} is missing"))?;
        arguments.get(at + 1).with_context(|| format!("{name} needs a value"))
    };
    let site = Site {
        root: option("--root")?.into(),
        listen: option("--listen")?.parse().context("--listen needs ADDRESS:PORT")?,
        pid_file: option("--pid-file")?.into(),
    };
    match arguments.first().map(String::as_str) {
        Some("serve") => site.serve()?,
        Some("start") => site.start()?,
        Some("stop") => site.stop()?,
        Some("status") if site.pid()?.is_none() => return Ok(ExitCode::from(NOT_RUNNING)),
        Some("status") => {}
        _ => bail!("say start, stop, status or serve"),
    }
    Ok(ExitCode::SUCCESS)
}

impl Site {
    /// The process that serves, if there is one; a pid file that a killed process left does not count.
    fn pid(&self) -> Result<Option<Pid>> {
        let text = match fs::read_to_string(&self.pid_file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.pid_file.display().to_string()),
        };
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return Ok(None) };
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours =
            command.split(|b| *b == 0).any(|word| word == self.pid_file.as_os_str().as_encoded_bytes());
        Ok(ours.then_some(pid))
    }

    fn start(&self) -> Result<()> {
        if self.pid()?.is_some() {
            return Ok(());
        }
        let mut child = Command::new(env::current_exe()?)
            .arg("serve")
            .args(["--root".as_ref(), self.root.as_os_str()])
            .args(["--listen", &self.listen.to_string()])
            .args(["--pid-file".as_ref(), self.pid_file.as_os_str()])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.note("start")?;
        let start = Instant::now();
        while TcpStream::connect_timeout(&self.listen, LIMIT).is_err() || self.pid()?.is_none() {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "it ended at once, {status}: is {} taken, or {} unreadable?",
                    self.listen,
                    self.root.display()
                );
            }
            if start.elapsed() > LIMIT {
                bail!("it does not listen on {} after {LIMIT:?}", self.listen);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn stop(&self) -> Result<()> {
        let Some(pid) = self.pid()? else { return Ok(()) };
        self.note("stop")?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        pidfd_send_signal(&process, Signal::TERM)?;
        let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))? == 0 {
            bail!("process {pid} has not ended after {LIMIT:?}");
        }
        let _ = fs::remove_file(&self.pid_file);
        Ok(())
    }

    fn note(&self, what: &str) -> Result<()> {
        let log = self.pid_file.with_extension("log");
        Ok(writeln!(File::options().append(true).create(true).open(log)?, "{what}")?)
    }

    fn serve(&self) -> Result<()> {
        // Already a leader when somebody's shell started it in a group of its own.
        let _ = rustix::process::setsid();
        let index = fs::read(self.root.join("index.html")).context("index.html")?;
        let listener = TcpListener::bind(self.listen)?;
        write_whole(&self.pid_file, &std::process::id().to_string())?;
        let started = Instant::now();
        for stream in listener.incoming().flatten() {
            let (index, health) = (index.clone(), self.root.join("health.txt"));
            thread::spawn(move || answer(stream, &index, &health, started));
        }
        Ok(())
    }
}

fn is_well(health: &str, started: Instant) -> bool {
    match health.trim().strip_prefix("ok for ") {
        Some(seconds) => {
            seconds.parse().is_ok_and(|seconds| started.elapsed() < Duration::from_secs(seconds))
        }
        None => health.trim() == "ok",
    }
}

fn answer(mut stream: TcpStream, index: &[u8], health: &Path, started: Instant) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < 16 * 1024 {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    let (status, body) = if request.starts_with(b"GET /healthz ") {
        match fs::read_to_string(health) {
            Ok(text) if is_well(&text, started) => ("200 OK", b"ok\n".to_vec()),
            Ok(text) => ("503 Service Unavailable", text.into_bytes()),
            Err(error) => ("503 Service Unavailable", error.to_string().into_bytes()),
        }
    } else {
        ("200 OK", index.to_vec())
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

/// Writes a file so that a reader sees all of it or nothing.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    File::create(&new)?.write_all(text.as_bytes())?;
    fs::rename(&new, path)?;
    Ok(())
}
