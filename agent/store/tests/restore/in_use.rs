//! Files that are in use while they are replaced: open, running, and therefore mapped.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::stored::Stored;

/// A program that runs until it is dropped.
struct Running(Child);

impl Running {
    /// Runs a copy of `cat`, which waits for input.
    fn start(program: &Path) -> Self {
        let child = crate::lab::program(&program.to_string_lossy())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("it starts"))
    }

    fn inode(&self) -> u64 {
        fs::metadata(format!("/proc/{}/exe", self.0.id())).expect("it runs").ino()
    }

    /// It still does what it did: the code that is mapped is whole.
    #[track_caller]
    fn assert_works(&mut self) {
        let text = b"still here\n";
        self.0.stdin.as_mut().expect("input").write_all(text).expect("it takes input");
        let mut back = vec![0; text.len()];
        self.0.stdout.as_mut().expect("output").read_exact(&mut back).expect("it answers");
        assert_eq!(back, text);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_that_runs_is_replaced_and_goes_on() {
    let stored = Stored::within(&std::env::temp_dir(), &["site"]);
    let program = stored.lab.site("bin/tool");
    fs::create_dir_all(stored.lab.site("bin")).expect("a folder");
    fs::copy("/bin/cat", &program).expect("a copy");
    let (first, _) = stored.capture();
    // A release: a new file takes the place, as any deploy does it, with bytes that no one runs.
    let released = stored.lab.site("bin/tool.new");
    fs::copy("/bin/cat", &released).expect("a copy");
    OpenOptions::new().append(true).open(&released).expect("open").write_all(b"release 2").expect("written");
    fs::rename(&released, &program).expect("renamed");
    let (second, _) = stored.capture();
    let mut running = Running::start(&program);
    running.assert_works();
    let inode = running.inode();
    for (target, length) in [(first, fs::metadata("/bin/cat").expect("cat").len()), (second, 0)] {
        stored.restore(target);
        let live = fs::metadata(&program).expect("a file");
        assert!(length == 0 || live.len() == length, "{} bytes", live.len());
        // The process keeps the inode that it started from; the path has another, which runs as well.
        assert_eq!(running.inode(), inode);
        assert_ne!(live.ino(), inode);
        running.assert_works();
        Running::start(&program).assert_works();
    }
}

#[test]
fn a_file_that_is_open_keeps_what_it_was_for_whoever_has_it_open() {
    let stored = Stored::within(&std::env::temp_dir(), &["site"]);
    fs::create_dir_all(stored.lab.site("")).expect("a folder");
    let path = stored.lab.site("log");
    fs::write(&path, "target").expect("written");
    let (target, _) = stored.capture();
    fs::write(&path, "what was live").expect("written");
    let mut reader = File::open(&path).expect("open");
    let mut writer = OpenOptions::new().append(true).open(&path).expect("open");
    stored.restore(target);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    assert_eq!(text, "what was live");
    // What is written to the file that went reaches nobody else.
    writer.write_all(b", and late").expect("written");
    assert_eq!(fs::read_to_string(&path).expect("read"), "target");
    reader.seek(SeekFrom::Start(0)).expect("a place");
    text.clear();
    reader.read_to_string(&mut text).expect("read");
    assert_eq!(text, "what was live, and late");
}
