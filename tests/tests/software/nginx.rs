//! nginx with everything of it in one tree, and nothing of that excluded: configuration, pages, logs, pid file, cache.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use rfs_tests::bed::free_address;

use crate::ground::{Ground, Told, installed};
use crate::load::{DOWN, Load, ask};
use crate::operator::{Commands, Operator};
use crate::tree::{Aside, chmod, put};

struct Nginx {
    tree: PathBuf,
    address: SocketAddr,
}

pub(crate) fn story(ground: &Ground) -> Told {
    let nginx = Nginx { tree: ground.path().join("nginx"), address: free_address() };
    nginx.release("v1");
    let files = format!("paths = [\"{}\"]", nginx.tree.display());
    let health = Operator::health(&format!("http://{}/healthz", nginx.address));
    let mut operator = Operator::of(ground, &files, nginx.commands(), &health);
    operator.service("start");
    operator.start_agent();
    operator.await_health("good");
    let page = Load::http(nginx.address, "/");
    let cached = nginx.cached();
    let clients_see = |before: [&str; 2], after: [&str; 2]| {
        page.saw(before[0], after[0]);
        cached.saw(before[1], after[1]);
    };
    const GOOD: [&str; 2] = ["200 page of v1", "200 asset 3 of v1"];
    const BAD: [&str; 2] = ["200 page of v2", "404"];

    page.await_outcome(GOOD[0]);
    let captured = operator.capture();
    assert!(!captured.contains("note"), "nothing is left out: {captured}");
    clients_see(GOOD, GOOD);
    let good = operator.newest();
    let pages = Aside::of(ground.path().join("good"), &nginx.compared());

    // The release went wrong in many ways, and nginx runs on.
    nginx.bad_release();
    operator.service("stop");
    operator.service("start");
    clients_see(GOOD, BAD);
    operator.await_health("bad");
    let broken = Aside::of(ground.path().join("broken"), &nginx.compared());

    let plan = operator.plan(&good);
    let gone = [nginx.tree.join("html/draft.html"), nginx.tree.join("html/only-v2")];
    for line in [
        "stop service".to_owned(),
        "start service".to_owned(),
        format!("write {} (", nginx.tree.join("conf/nginx.conf").display()),
        format!("create {}/ (folder of 2 entries, ", nginx.tree.join("html/only-v1").display()),
        format!("chmod {} (0600 to 0644)", nginx.tree.join("html/assets/11.css").display()),
        format!("delete {} (", gone[0].display()),
        "removed    4 entries that the snapshot does not have".to_owned(),
    ] {
        assert!(plan.contains(&line), "{line:?} is not planned: {plan}");
    }
    clients_see(BAD, BAD);

    let restored = operator.restore(&good);
    clients_see(BAD, GOOD);
    operator.await_health("good");
    pages.assert_same("restored");
    for written in ["logs/error.log", "run/nginx.pid"] {
        let since = restored.words.lines().find(|line| line.trim().starts_with("since ")).unwrap_or_default();
        assert!(since.contains(written), "{written} was written since: {}", restored.words);
    }
    restored.bring_one_back(&operator, &[&gone[0], &gone[1]]);
    clients_see(GOOD, GOOD);
    operator.stop_agent();

    operator.restore_by(&restored.undo);
    clients_see(GOOD, BAD);
    broken.assert_same("undone");
    operator.restore(&good);
    clients_see(BAD, GOOD);
    pages.assert_same("restored again");

    nginx.does_not_start_at_all(&operator, &pages, || clients_see(GOOD, GOOD));
    clients_see(GOOD, GOOD);
    operator.capture();
    let newest = operator.newest();
    assert_ne!(newest, good);
    operator.restore(&newest);
    clients_see(GOOD, GOOD);
    pages.assert_same("captured and restored again");
    Told::Whole
}

impl Nginx {
    fn commands(&self) -> Commands {
        let (nginx, tree) = (installed("nginx"), self.tree.display());
        let (nginx, pid) = (nginx.display(), format!("{tree}/run/nginx.pid"));
        Commands {
            start: format!("{nginx} -p {tree} -c conf/nginx.conf"),
            stop: format!("kill -QUIT $(cat {pid}) && while test -e {pid}; do sleep 0.01; done"),
            status: format!("test -s {pid} && test -e /proc/$(cat {pid})/exe || exit 3"),
        }
    }

    /// A client of a page that nginx asks itself for, and keeps. While it stops it asks in vain.
    fn cached(&self) -> Load {
        let address = self.address;
        Load::of(move |_| match ask(address, "GET /cached/assets/3.css HTTP/1.0\r\n\r\n") {
            bad_gateway if bad_gateway == "502" => DOWN.to_owned(),
            outcome => outcome,
        })
    }

    /// What nginx itself does not write to.
    fn compared(&self) -> Vec<PathBuf> {
        ["conf", "html"].map(|folder| self.tree.join(folder)).to_vec()
    }

    fn release(&self, version: &str) {
        let tree = &self.tree;
        for folder in ["logs", "run", "cache", "temp"] {
            fs::create_dir_all(tree.join(folder)).expect("the ground can be written to");
        }
        // nginx's worker user may write there.
        for folder in ["cache", "temp"] {
            chmod(&tree.join(folder), 0o777);
        }
        put(&tree.join("html/index.html"), &format!("page of {version}\n"));
        for number in 0..60 {
            let text = format!("asset {number} of {version}\n");
            put(&tree.join(format!("html/assets/{number}.css")), &text);
        }
        put(&tree.join(format!("html/only-{version}/a.html")), "a\n");
        put(&tree.join(format!("html/only-{version}/b.html")), "b\n");
        self.configure("return 200 \"ok\\n\"");
    }

    fn configure(&self, healthz: &str) {
        let text = format!(
            r#"worker_processes 2;
pid run/nginx.pid;
error_log logs/error.log info;
events {{ worker_connections 256; }}
http {{
  access_log logs/access.log;
  client_body_temp_path temp/body; proxy_temp_path temp/proxy; fastcgi_temp_path temp/fastcgi;
  uwsgi_temp_path temp/uwsgi; scgi_temp_path temp/scgi;
  proxy_cache_path cache levels=1:2 keys_zone=pages:1m;
  server {{
    listen {address};
    root html;
    location /cached/ {{ proxy_pass http://{address}/; proxy_cache pages; proxy_cache_valid 200 1s; }}
    location = /healthz {{ {healthz}; }}
  }}
}}
"#,
            address = self.address
        );
        put(&self.tree.join("conf/nginx.conf"), &text);
    }

    /// Pages changed, went and came, a mode is another, and it is not well.
    fn bad_release(&self) {
        let html = self.tree.join("html");
        put(&html.join("index.html"), "page of v2\n");
        put(&html.join("draft.html"), "not for the public\n");
        put(&html.join("only-v2/a.html"), "a\n");
        put(&html.join("only-v2/b.html"), "b\n");
        fs::remove_dir_all(html.join("only-v1")).expect("ours");
        for number in 40..60 {
            fs::remove_file(html.join(format!("assets/{number}.css"))).expect("ours");
        }
        chmod(&html.join("assets/11.css"), 0o600);
        self.configure("return 503");
        fs::remove_file(html.join("assets/3.css")).expect("ours");
    }

    /// A release that nginx refuses leaves it down. The restore brings it up, and the undo down again.
    fn does_not_start_at_all(&self, operator: &Operator, pages: &Aside, is_served: impl Fn()) {
        let good = operator.newest();
        self.configure("retrun 200");
        operator.service("stop");
        let start = std::process::Command::new("sh").args(["-c", &self.commands().start]).output();
        assert!(!start.expect("sh starts").status.success(), "nginx refuses its configuration");
        let down = Aside::of(self.tree.with_file_name("down"), &self.compared());
        let plan = operator.plan(&good);
        assert!(plan.contains("start service") && !plan.contains("stop service"), "{plan}");
        let restored = operator.restore(&good);
        is_served();
        pages.assert_same("restored from a release that did not start");
        operator.restore_by(&restored.undo);
        assert!(!operator.is_running(), "it was down before");
        down.assert_same("undone to a release that did not start");
        operator.restore(&good);
        is_served();
        pages.assert_same("restored from it again");
    }
}
