//! A Java service as deploy tools lay one out: releases side by side, a link `current` to the one that runs, logs and the pid file
//! in the same tree, and its control script in the release itself, which the bad release breaks.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rfs_tests::bed::{free_address, run};

use crate::ground::{Ground, Told, installed};
use crate::load::Load;
use crate::operator::{Commands, Operator};
use crate::tree::{Aside, put, put_program};

const APP: &str = r#"
import com.sun.net.httpserver.*;
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;

public class App {
    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        Properties release = new Properties();
        try (InputStream in = Files.newInputStream(home.resolve("current/app.properties"))) { release.load(in); }
        PrintWriter log = new PrintWriter(new FileWriter(home.resolve("logs/app.log").toFile(), true), true);
        int port = Integer.parseInt(arguments[1]);
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 64);
        server.createContext("/", exchange -> {
            log.println(release.getProperty("version") + " " + exchange.getRequestURI());
            byte[] body = ("orders " + release.getProperty("version") + "\n").getBytes();
            exchange.sendResponseHeaders(Integer.parseInt(release.getProperty("status")), body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        Files.writeString(home.resolve("run/app.pid"), ProcessHandle.current().pid() + "\n");
        log.println("started " + release.getProperty("version"));
    }
}
"#;

struct Orders {
    tree: PathBuf,
    address: SocketAddr,
    /// The compiled program, which every release has a copy of.
    classes: PathBuf,
}

pub(crate) fn story(ground: &Ground) -> Told {
    let (tree, classes) = (ground.path().join("orders"), ground.path().join("classes"));
    let orders = Orders { tree, address: free_address(), classes };
    orders.compile();
    for folder in ["logs", "run"] {
        fs::create_dir_all(orders.tree.join(folder)).expect("the ground can be written to");
    }
    orders.release("1", "200");
    let files = format!("paths = [\"{}\"]\nexclude = [\"logs/**\"]", orders.tree.display());
    let health = Operator::health(&format!("http://{}/healthz", orders.address));
    let commands = Commands::of(&orders.tree.join("current/bin/ctl"));
    let mut operator = Operator::of(ground, &files, commands, &health);
    operator.service("start");
    operator.start_agent();
    operator.await_health("good");
    let client = Load::http(orders.address, "/order");
    const GOOD: &str = "200 orders 1";
    const BAD: &str = "500";

    client.saw(GOOD, GOOD);
    operator.capture();
    let good = operator.newest();
    client.saw(GOOD, GOOD);
    let compared = ["releases", "current"].map(|path| orders.tree.join(path));
    let first = Aside::of(ground.path().join("good"), &compared[..1]);

    // The second release comes, the first is cleaned away, and what stops the service stops it no longer.
    operator.service("stop");
    orders.release("2", "500");
    fs::remove_dir_all(orders.tree.join("releases/1")).expect("ours");
    operator.service("start");
    client.saw(GOOD, BAD);
    orders.break_stop();
    operator.await_health("bad");
    let broken = Aside::of(ground.path().join("broken"), &compared[..1]);

    let plan = operator.plan(&good);
    let (link, old, new) = (&compared[1], orders.tree.join("releases/1"), orders.tree.join("releases/2"));
    for line in [
        format!("create {}/ (folder", old.display()),
        format!("delete {}/ (folder", new.display()),
        format!("link {} -> releases/1", link.display()),
    ] {
        assert!(plan.contains(&line), "{line:?} is not planned: {plan}");
    }
    assert!(!plan.contains("/logs/"), "logs are excluded: {plan}");

    let restored = operator.restore(&good);
    client.saw(BAD, GOOD);
    operator.await_health("good");
    first.assert_same("restored");
    orders.runs(&operator, "1");
    restored.bring_one_back(&operator, &[&new]);
    client.saw(GOOD, GOOD);
    orders.runs(&operator, "1");

    operator.stop_agent();
    operator.restore_by(&restored.undo);
    client.saw(GOOD, BAD);
    broken.assert_same("undone");
    orders.runs(&operator, "2");
    operator.restore(&good);
    client.saw(BAD, GOOD);
    first.assert_same("restored again");
    operator.capture();
    client.saw(GOOD, GOOD);
    operator.restore(&operator.newest());
    client.saw(GOOD, GOOD);
    orders.runs(&operator, "1");
    orders.log_is_whole();
    Told::Whole
}

impl Orders {
    fn compile(&self) {
        let source = self.classes.join("App.java");
        put(&source, APP);
        let said = run(Command::new(installed("javac")).arg("-d").arg(&self.classes).arg(&source));
        assert_eq!(said.code, 0, "javac: {said:?}");
    }

    /// Lays a release out and points `current` to it, as deploy tools do.
    fn release(&self, version: &str, status: &str) {
        let release = self.tree.join("releases").join(version);
        fs::create_dir_all(release.join("lib")).expect("the ground can be written to");
        for class in fs::read_dir(&self.classes).expect("compiled").flatten() {
            fs::copy(class.path(), release.join("lib").join(class.file_name())).expect("copied");
        }
        put(&release.join("app.properties"), &format!("version={version}\nstatus={status}\n"));
        put_program(&release.join("bin/ctl"), &self.script());
        let new = self.tree.join("current.new");
        symlink(Path::new("releases").join(version), &new).expect("a link can be made");
        fs::rename(&new, self.tree.join("current")).expect("the link can be exchanged");
    }

    fn script(&self) -> String {
        let (java, home, port) = (installed("java"), self.tree.display(), self.address.port());
        format!(
            r#"#!/bin/sh
cd {home}
case $1 in
start)
    rm -f run/app.pid
    setsid {java} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx64m -Xlog:gc:logs/gc.log -cp current/lib App {home} {port} \
        >>logs/out.log 2>&1 </dev/null &
    for try in $(seq 1000); do test -s run/app.pid && exit 0; sleep 0.02; done
    exit 1 ;;
stop)
    pid=$(cat run/app.pid) && kill $pid || exit 1
    while test -e /proc/$pid/exe; do sleep 0.01; done
    rm -f run/app.pid ;;
status) test -s run/app.pid && test -e /proc/$(cat run/app.pid)/exe || exit 3 ;;
esac
"#,
            java = java.display(),
        )
    }

    fn break_stop(&self) {
        let script = self.tree.join("current/bin/ctl");
        let text = fs::read_to_string(&script).expect("it is there");
        let broken =
            text.replace("stop)\n", "stop)\n    echo 'ctl: no module named lifecycle' >&2; exit 1\n");
        assert_ne!(text, broken);
        put_program(&script, &broken);
    }

    /// It runs from the release that `current` names, as the process that its pid file names.
    #[track_caller]
    fn runs(&self, operator: &Operator, version: &str) {
        assert!(operator.is_running());
        let current = fs::read_link(self.tree.join("current")).expect("a link");
        assert_eq!(current, Path::new("releases").join(version));
        let pid = fs::read_to_string(self.tree.join("run/app.pid")).expect("it runs");
        let process = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        assert!(process.contains("current/lib\0App"), "process {pid} is {process:?}");
    }

    /// The log was left alone: it has every release in the order in which they ran.
    fn log_is_whole(&self) {
        let log = fs::read_to_string(self.tree.join("logs/app.log")).expect("a log");
        let mut started: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("started ")).collect();
        started.dedup();
        assert_eq!(started, ["1", "2", "1", "2", "1"], "each restore and undo is in the log");
    }
}

impl Drop for Orders {
    /// A release whose stop is broken is ended, too.
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.tree.join("run/app.pid")).unwrap_or_default();
        let process = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        if process.contains(&*self.tree.to_string_lossy()) {
            let _ = run(Command::new("kill").arg("-9").arg(pid.trim()));
        }
    }
}
