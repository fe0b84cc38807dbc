//! A PHP application whose sessions are excluded, and whose uploads stay whatever is restored.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rfs_tests::bed::free_address;

use crate::ground::{Ground, Told, installed};
use crate::load::{Load, ask};
use crate::operator::{Commands, Operator};
use crate::tree::{Aside, chmod, put, put_program};

const CONFIGURED: &str = r#"exclude = ["sessions/**"]
extras = { "uploads/**" = "keep" }"#;

const FRONT: &str = r#"<?php
$root = dirname(__DIR__);
session_save_path("$root/sessions");
session_start();
require "$root/app/lib/version.php";
$_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
switch (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
case '/healthz': echo "ok\n"; break;
case '/visits': echo $_SESSION['visits'], "\n"; break;
case '/upload':
    $name = "$root/uploads/" . basename($_GET['name']);
    if (file_put_contents("$name.part", $_GET['content']) && rename("$name.part", $name)) echo "kept\n";
    break;
default: echo version(), "\n";
}
"#;

struct Shop {
    tree: PathBuf,
    address: SocketAddr,
}

/// Uploads that were answered with "kept", by name.
type Uploads = Arc<Mutex<BTreeMap<String, String>>>;

pub(crate) fn story(ground: &Ground) -> Told {
    let shop = Shop { tree: ground.path().join("shop"), address: free_address() };
    shop.release();
    let files = format!("paths = [\"{}\"]\n{CONFIGURED}", shop.tree.display());
    let health = Operator::health(&format!("http://{}/healthz", shop.address));
    let mut operator = Operator::of(ground, &files, Commands::of(&shop.tree.join("bin/ctl")), &health);
    operator.service("start");
    operator.start_agent();
    operator.await_health("good");
    assert_eq!(shop.visit(), "200 1", "a customer has a session from before all of this");
    let page = Load::http(shop.address, "/");
    let (uploading, uploads) = shop.uploading();
    let clients_see = |before: [&str; 2], after: [&str; 2]| {
        page.saw(before[0], after[0]);
        uploading.saw(before[1], after[1]);
    };
    const GOOD: [&str; 2] = ["200 shop v1", "200 kept"];
    const BAD: [&str; 2] = ["500", "500"];

    clients_see(GOOD, GOOD);
    operator.capture();
    let good = operator.newest();
    clients_see(GOOD, GOOD);
    let code = Aside::of(ground.path().join("good"), &[shop.tree.join("app")]);

    let debug = shop.bad_release();
    clients_see(GOOD, BAD);
    operator.await_health("bad");
    let broken = Aside::of(ground.path().join("broken"), &[shop.tree.join("app")]);

    let plan = operator.plan(&good);
    assert!(plan.contains(&format!("delete {} (", debug.display())), "{plan}");
    assert!(plan.contains("(0600 to 0644)"), "{plan}");
    assert!(plan.contains("removed    1 entry that the snapshot does not have"), "{plan}");
    assert!(plan.contains("/uploads/") && plan.contains("are kept"), "uploads are named: {plan}");
    assert!(!plan.contains("/sessions/"), "sessions are nobody's business: {plan}");

    let restored = operator.restore(&good);
    clients_see(BAD, GOOD);
    operator.await_health("good");
    code.assert_same("restored");
    shop.has_all(&uploads, "restored");
    assert_eq!(shop.visit(), "200 2", "the customer has the session still");
    assert!(restored.words.contains("/uploads/"), "{}", restored.words);
    restored.bring_one_back(&operator, &[&debug]);
    clients_see(GOOD, GOOD);

    operator.stop_agent();
    operator.restore_by(&restored.undo);
    clients_see(GOOD, BAD);
    broken.assert_same("undone");
    shop.has_all(&uploads, "undone");
    operator.restore(&good);
    clients_see(BAD, GOOD);
    operator.capture();
    let newest = operator.newest();
    shop.bad_release();
    clients_see(GOOD, BAD);
    operator.restore(&newest);
    clients_see(BAD, GOOD);
    code.assert_same("captured and restored again");
    shop.has_all(&uploads, "restored again");
    assert_eq!(shop.visit(), "200 3", "the customer has the session still");
    Told::Whole
}

impl Shop {
    fn release(&self) {
        for folder in ["sessions", "uploads", "run", "logs"] {
            fs::create_dir_all(self.tree.join(folder)).expect("the ground can be written to");
        }
        let session = "visits|i:0;";
        put(&self.tree.join("sessions/sess_customer"), session);
        put(&self.tree.join("app/index.php"), FRONT);
        put(&self.tree.join("app/lib/version.php"), "<?php function version() { return 'shop v1'; }\n");
        for number in 0..40 {
            put(&self.tree.join(format!("app/lib/part-{number}.php")), &format!("<?php // {number} of v1\n"));
        }
        let (php, tree, address) = (installed("php"), self.tree.display(), self.address);
        let script = format!(
            r#"#!/bin/sh
cd {tree}
case $1 in
start)
    setsid {php} -S {address} -t app app/index.php >>logs/php.log 2>&1 </dev/null &
    echo $! >run/php.pid
    for try in $(seq 500); do
        {php} -r 'exit(@stream_socket_client("tcp://{address}") ? 0 : 1);' && exit 0
        sleep 0.02
    done
    exit 1 ;;
stop)
    pid=$(cat run/php.pid) && kill -INT $pid || exit 1
    while test -e /proc/$pid/exe; do sleep 0.01; done
    rm -f run/php.pid ;;
status) test -s run/php.pid && test -e /proc/$(cat run/php.pid)/exe || exit 3 ;;
esac
"#,
            php = php.display(),
        );
        put_program(&self.tree.join("bin/ctl"), &script);
    }

    /// The code does not run, parts of it are gone or closed, and somebody left a page that tells too much. PHP has it at once.
    fn bad_release(&self) -> PathBuf {
        let app = self.tree.join("app");
        let debug = app.join("debug.php");
        put(&debug, "<?php phpinfo();\n");
        for number in 10..20 {
            fs::remove_file(app.join(format!("lib/part-{number}.php"))).expect("ours");
        }
        chmod(&app.join("lib/part-2.php"), 0o600);
        // Only the superuser gives files away.
        let _ = std::os::unix::fs::chown(app.join("lib/part-3.php"), Some(33), Some(33));
        put(&app.join("lib/version.php"), "<?php function version() { return 'shop v2' }\n");
        debug
    }

    /// The customer comes again: how many visits the session counts.
    fn visit(&self) -> String {
        ask(self.address, "GET /visits HTTP/1.0\r\ncookie: PHPSESSID=customer\r\n\r\n")
    }

    /// A client that uploads one file after the other, and what it was told is kept.
    fn uploading(&self) -> (Load, Uploads) {
        let (uploads, address) = (Uploads::default(), self.address);
        let kept = uploads.clone();
        let load = Load::of(move |number| {
            let (name, content) = (format!("photo-{number}"), format!("content-of-{number}"));
            let request = format!("GET /upload?name={name}&content={content} HTTP/1.0\r\nhost: shop\r\n\r\n");
            let outcome = ask(address, &request);
            if outcome == "200 kept" {
                kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name, content);
            }
            outcome
        });
        (load, uploads)
    }

    /// Whatever a client was told is kept is there.
    fn has_all(&self, uploads: &Uploads, when: &str) {
        let uploads = uploads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(uploads.len() > 10, "{when}: there was a load");
        for (name, content) in uploads {
            let read = fs::read_to_string(self.tree.join("uploads").join(&name));
            assert_eq!(read.ok(), Some(content), "{when}: {name} is lost");
        }
    }
}
