//! Small file systems that fill up, become read-only, or break.

use std::fs::{self, File};
use std::io::Write as _;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A file system of its own, unmounted when dropped.
pub(crate) struct Disk {
    at: PathBuf,
    /// What it is kept in, if it is an image.
    image: Option<PathBuf>,
}

/// What a page of memory, and of a file in one, takes.
pub(crate) const PAGE: u64 = 4096;

impl Disk {
    /// One in memory. `None` where the user may not mount; that is said.
    pub(crate) fn memory(at: &Path, options: &str) -> Option<Self> {
        let options = format!("{options},mode=755");
        mount(&["-t", "tmpfs", "-o", &options, "none"], at).then(|| Self { at: at.to_owned(), image: None })
    }

    /// An ext4 in an image of that size. `None` where that cannot be; that is said.
    pub(crate) fn image(at: &Path, image: &Path, bytes: u64) -> Option<Self> {
        Self::ext4(at, image, bytes, &["-O", "^has_journal"])
    }

    /// One that survives a crash.
    pub(crate) fn journalled(at: &Path, image: &Path, bytes: u64) -> Option<Self> {
        Self::ext4(at, image, bytes, &[])
    }

    fn ext4(at: &Path, image: &Path, bytes: u64, options: &[&str]) -> Option<Self> {
        File::create(image).and_then(|file| file.set_len(bytes)).expect("an image");
        // Little of it is taken for anything but content.
        let made =
            program("mkfs.ext4").args(["-q", "-m", "0", "-N", "512"]).args(options).arg(image).output();
        if !made.is_ok_and(|made| made.status.success()) {
            crate::common::skip("mkfs.ext4 is not here");
            return None;
        }
        let disk = Self { at: at.to_owned(), image: Some(image.to_owned()) };
        disk.mount_image().then_some(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.at
    }

    fn mount_image(&self) -> bool {
        let image = self.image.as_ref().expect("it is kept in an image").to_string_lossy().into_owned();
        mount(&["-o", "loop", &image], &self.at)
    }

    /// Unmounts it. A program that another test starts holds for a moment what this one has open.
    fn unmount(&self) {
        let begun = Instant::now();
        while !succeeds(program("umount").arg(&self.at)) {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody uses it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Unmounts it, so that the kernel forgets its content, and mounts it again.
    pub(crate) fn again(&self) {
        self.unmount();
        assert!(self.mount_image(), "it was mounted before");
    }

    /// Takes away what lies behind a place: reading it is an error from here on. What the kernel remembers is forgotten
    /// first, and whatever was taken away before is there again.
    pub(crate) fn break_behind(&self, whole: &[u8], place: u64) {
        let image = self.image.as_ref().expect("it is kept in an image");
        self.unmount();
        fs::write(image, whole).expect("the image as it was");
        assert!(self.mount_image(), "it was mounted before");
        File::options().write(true).open(image).and_then(|image| image.set_len(place)).expect("shorter");
    }

    /// All that is on it.
    pub(crate) fn copy(&self) -> Vec<u8> {
        self.unmount();
        let whole = fs::read(self.image.as_ref().expect("it is kept in an image")).expect("reads");
        assert!(self.mount_image(), "it was mounted before");
        whole
    }

    /// Mounts it in another way.
    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(succeeds(program("mount").args(["-o", &options]).arg(&self.at)), "{options}");
    }

    /// Breaks it: everything that asks its device fails from here on. False: the program for it is not here.
    pub(crate) fn shut_down(&self) -> bool {
        succeeds(program("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.at))
    }

    /// Fills it but for so many pages, until what is returned is dropped.
    pub(crate) fn fill_but(&self, pages: u64) -> Filler {
        let path = self.at.join("filler");
        let mut file = File::create(&path).expect("a file");
        // To the last byte: smaller pieces fit where larger ones no longer do.
        for size in [1 << 16, PAGE as usize] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        let length = file.metadata().expect("a file").len();
        file.set_len(length.saturating_sub(pages * PAGE)).expect("shorter");
        Filler(vec![path])
    }

    /// Makes files until only so many more can be made.
    pub(crate) fn fill_names_but(&self, names: usize) -> Filler {
        let paths = (0..).map(|number| self.at.join(format!("filler{number}")));
        let mut made: Vec<PathBuf> = paths.take_while(|path| File::create(path).is_ok()).collect();
        for path in made.split_off(made.len() - names) {
            fs::remove_file(path).expect("removed");
        }
        Filler(made)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = program("umount").arg("-l").arg(&self.at).output();
    }
}

/// What takes the room on a disk.
pub(crate) struct Filler(Vec<PathBuf>);

impl Drop for Filler {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    fs::create_dir_all(at).expect("a folder");
    let mounted = succeeds(program("mount").args(arguments).arg(at));
    if !mounted {
        crate::common::skip(&format!("{arguments:?} cannot be mounted here"));
    }
    mounted
}

fn succeeds(command: &mut Command) -> bool {
    matches!(command.output(), Ok(Output { status, .. }) if status.success())
}

#[expect(clippy::disallowed_methods, reason = "a test may run what it needs")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}
