//! The volume of a container: a database in a user namespace of its own, with the volume's files under ids that nobody has on the
//! host, and a mount inside that is somebody else's.
//!
//! The database is Redis with its append-only file; a capture holds its rewriting, as its manual asks for a backup. The container's
//! root is an empty tree with the host's `/usr`, so that no image is needed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rfs_tests::bed::{free_address, run};

use crate::ground::{Ground, Told, installed};
use crate::load::{DOWN, Load};
use crate::operator::{Commands, Operator};
use crate::tree::{Aside, chmod, put, put_program};

/// The first id of the container's users, and the one of its database.
const FIRST: u32 = 100_000;
const OWNER: u32 = FIRST + 999;

struct Database {
    folder: PathBuf,
    volume: PathBuf,
    address: SocketAddr,
}

/// What is mounted inside the volume.
struct Inside(PathBuf);

pub(crate) fn story(ground: &Ground) -> Told {
    let folder = ground.path().join("container");
    let database = Database { volume: folder.join("volume"), folder, address: free_address() };
    if let Err(reason) = database.make() {
        return Told::Cannot(reason);
    }
    let script = database.folder.join("ctl");
    let files = format!(
        "paths = [\"{}\"]\nquiesce = \"{script} hold\"\nresume = \"{script} release\"",
        database.volume.display(),
        script = script.display(),
    );
    let operator = Operator::of(ground, &files, Commands::of(&script), "");
    let started = run(Command::new(&script).arg("start"));
    if started.code != 0 {
        return Told::Cannot(format!("this machine runs no such container: {}", started.err.trim()));
    }
    let inside = Inside::mount(&database.volume.join("backup"));
    let counter = database.counting();
    const COUNTED: &str = "counted";

    database.tell("SET greeting good");
    counter.await_outcome(COUNTED);
    let counted = database.count();
    let captured = operator.capture();
    counter.saw(COUNTED, COUNTED);
    let good = operator.newest();
    let left_out = format!("{} is a mount (tmpfs) and is left out", inside.0.display());
    assert!(captured.contains(&left_out), "{captured}");

    // A wrong migration: values and settings are others, a dump was left, and somebody opened the folder to everybody.
    database.tell("SET greeting bad");
    database.tell("SET added since");
    let dump = database.volume.join("core.1");
    put(&dump, "a dump\n");
    let (settings, folder) = (database.volume.join("redis.conf"), database.volume.join("appendonlydir"));
    let text = fs::read_to_string(&settings).expect("it is there");
    fs::write(&settings, format!("{text}timeout 9\n")).expect("ours");
    chmod(&folder, 0o777);
    put(&inside.0.join("nightly"), "somebody else's\n");

    let plan = operator.plan(&good);
    for line in [
        "stop service".to_owned(),
        format!("delete {} (", dump.display()),
        format!("write {} (", settings.display()),
        format!("at the capture: {left_out}"),
    ] {
        assert!(plan.contains(&line), "{line:?} is not planned: {plan}");
    }

    let restored = operator.restore(&good);
    counter.saw(COUNTED, COUNTED);
    assert_eq!(database.tell("GET greeting"), "good");
    assert_eq!(database.tell("GET added"), "");
    assert!(database.count() >= counted, "the count goes on from that of the capture");
    assert_eq!(fs::read_to_string(&settings).expect("it is there"), text);
    assert_ne!(fs::metadata(&folder).expect("it is there").mode() & 0o777, 0o777);
    database.owns_all(&inside.0);
    inside.is_untouched();
    restored.bring_one_back(&operator, &[&dump]);
    counter.saw(COUNTED, COUNTED);

    operator.restore_by(&restored.undo);
    counter.saw(COUNTED, COUNTED);
    assert_eq!(database.tell("GET greeting"), "bad");
    assert_eq!(database.tell("GET added"), "since");
    assert_eq!(fs::metadata(&folder).expect("it is there").mode() & 0o777, 0o777);
    inside.is_untouched();

    // With the database down, what was undone can be compared to the last byte.
    drop(counter);
    operator.service("stop");
    drop(inside);
    fs::remove_dir(database.volume.join("backup")).expect("it is empty");
    let broken = Aside::of(ground.path().join("broken"), std::slice::from_ref(&database.volume));
    let restored = operator.restore(&good);
    assert_eq!(database.tell("GET greeting"), "good");
    operator.restore_by(&restored.undo);
    assert!(!operator.is_running(), "it was down before");
    broken.assert_same("undone again");
    operator.restore(&good);
    assert_eq!(database.tell("GET greeting"), "good");
    operator.capture();
    operator.restore(&operator.newest());
    assert_eq!(database.tell("GET greeting"), "good");
    Told::Whole
}

impl Database {
    /// `Err`: why this machine cannot have it.
    fn make(&self) -> Result<(), String> {
        let root = self.folder.join("root");
        for folder in ["proc", "sys", "dev", "tmp", "run", "var", "data", "usr"] {
            fs::create_dir_all(root.join(folder)).expect("the ground can be written to");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(link), root.join(link)).expect("a link can be made");
        }
        for file in ["passwd", "group", "hosts", "hostname", "resolv.conf"] {
            put(&root.join("etc").join(file), "");
        }
        let _ = fs::copy("/etc/ld.so.cache", root.join("etc/ld.so.cache"));
        let own = run(Command::new("chown").args(["-R", &format!("{FIRST}:{FIRST}")]).arg(&root));
        if own.code != 0 {
            return Err("only the superuser gives files away".to_owned());
        }
        let settings = "dir /data\nbind 127.0.0.1\nappendonly yes\nappendfsync everysec\nsave 3600 1\nlogfile /data/redis.log\n";
        put(&self.volume.join("redis.conf"), &format!("{settings}port {}\n", self.address.port()));
        for path in [self.volume.clone(), self.volume.join("redis.conf")] {
            chown(path, Some(OWNER), Some(OWNER)).expect("the superuser gives files away");
        }
        put_program(&self.folder.join("ctl"), &self.script());
        Ok(())
    }

    fn script(&self) -> String {
        let (folder, port) = (self.folder.display(), self.address.port());
        let inside = OWNER - FIRST;
        format!(
            r#"#!/bin/sh
cd {folder}
name=rfs-test-{port}
podman() {{
    {podman} --root {folder}/storage --runroot {folder}/run --runtime runc --cgroup-manager cgroupfs \
        --storage-driver vfs --events-backend none "$@"
}}
told() {{ redis-cli -p {port} "$@" 2>/dev/null; }}
case $1 in
start)
    podman rm -f $name >/dev/null 2>&1
    podman run -d --name $name --net host --log-driver none --user {inside}:{inside} \
        --uidmap 0:{FIRST}:65536 --gidmap 0:{FIRST}:65536 --ulimit nofile=1000:1000 --ulimit nproc=500:500 \
        -v /usr:/usr:ro -v {folder}/volume:/data --rootfs {folder}/root redis-server /data/redis.conf >/dev/null || exit 1
    for try in $(seq 1000); do test "$(told ping)" = PONG && exit 0; sleep 0.02; done
    exit 1 ;;
stop) podman stop -t 20 $name >/dev/null ;;
status) test "$(podman inspect -f '{{{{.State.Running}}}}' $name 2>/dev/null)" = true || exit 3 ;;
hold)
    told config set auto-aof-rewrite-percentage 0 >/dev/null || exit 0
    while told info persistence | grep -q '^aof_rewrite_in_progress:1'; do sleep 0.02; done ;;
release) told config set auto-aof-rewrite-percentage 100 >/dev/null || exit 0 ;;
esac
"#,
            podman = installed("podman").display(),
        )
    }

    /// Tells the database one command, and returns the first line of its answer without the mark of its kind.
    #[track_caller]
    fn tell(&self, command: &str) -> String {
        let answer = self.exchange(command).unwrap_or_else(|error| panic!("{command}: {error}"));
        answer.strip_prefix(['+', ':']).unwrap_or(&answer).to_owned()
    }

    /// One command on a connection of its own; of a text its only line.
    fn exchange(&self, command: &str) -> std::io::Result<String> {
        let limit = Duration::from_secs(20);
        let mut stream = TcpStream::connect_timeout(&self.address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
        match first.as_str() {
            "$-1" => Ok(String::new()),
            text if text.starts_with('$') => lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)?,
            _ => Ok(first),
        }
    }

    /// A client that counts up all the time.
    fn counting(&self) -> Load {
        let database =
            Self { folder: self.folder.clone(), volume: self.volume.clone(), address: self.address };
        Load::of(move |_| match database.exchange("INCR counter") {
            Ok(answer) if answer.starts_with(':') => "counted".to_owned(),
            // It listens before it has read what it has.
            Ok(answer) if answer.starts_with("-LOADING") => DOWN.to_owned(),
            Ok(answer) => answer,
            Err(error) => match error.kind() {
                std::io::ErrorKind::ConnectionRefused
                | std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::BrokenPipe
                | std::io::ErrorKind::UnexpectedEof => DOWN.to_owned(),
                kind => kind.to_string(),
            },
        })
    }

    #[track_caller]
    fn count(&self) -> u64 {
        let answer = self.tell("GET counter");
        answer.parse().unwrap_or_else(|_| panic!("no number: {answer}"))
    }

    /// Every file of the volume belongs to the container's user.
    fn owns_all(&self, inside: &Path) {
        let mut folders = vec![self.volume.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it is there").flatten() {
                let (path, meta) = (entry.path(), entry.metadata().expect("it is there"));
                if path == inside {
                    continue;
                }
                assert_eq!((meta.uid(), meta.gid()), (OWNER, OWNER), "{}", path.display());
                if meta.is_dir() {
                    folders.push(path);
                }
            }
        }
    }
}

impl Inside {
    fn mount(at: &Path) -> Self {
        fs::create_dir(at).expect("the ground can be written to");
        let said = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(at));
        assert_eq!(said.code, 0, "{said:?}");
        Self(at.to_owned())
    }

    fn is_untouched(&self) {
        let read = fs::read_to_string(self.0.join("nightly"));
        assert_eq!(read.ok().as_deref(), Some("somebody else's\n"), "what is mounted is not the volume's");
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.0));
    }
}
