//! A git checkout with hooks, in which a deploy bot commits all the time.
//!
//! Files of a repository belong together, so that the bot is held for the moment of a capture by the component's own hooks, and
//! stands still while the checkout is changed: it is the service that uses it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rfs_tests::bed::{Said, run};
use rfs_tests::wait::until;

use crate::ground::{Ground, Told, installed};
use crate::load::Load;
use crate::operator::{Commands, Operator};
use crate::tree::{Aside, chmod, put, put_program};

struct Checkout {
    tree: PathBuf,
}

pub(crate) fn story(ground: &Ground) -> Told {
    let checkout = Checkout { tree: ground.path().join("checkout") };
    checkout.make();
    let gate = ground.path().join("gate");
    put_program(&gate, &checkout.gate());
    let files = format!(
        "paths = [\"{tree}\"]\nquiesce = \"{gate} close\"\nresume = \"{gate} open\"",
        tree = checkout.tree.display(),
        gate = gate.display(),
    );
    let commands = Commands {
        start: format!("{} open", gate.display()),
        stop: format!("{} close", gate.display()),
        status: format!("{} status", gate.display()),
    };
    let operator = Operator::of(ground, &files, commands, "");
    let bot = checkout.bot();
    const COMMITTED: &str = "committed";

    bot.await_outcome(COMMITTED);
    operator.capture();
    let good = operator.newest();
    bot.saw(COMMITTED, COMMITTED);

    // Somebody breaks the checkout between two commits, and commits go on, past a hook that no longer runs.
    operator.service("stop");
    let work = checkout.tree.join("src/30");
    put(&work, "conflict <<<<<<<\n");
    fs::remove_file(checkout.tree.join("src/29")).expect("ours");
    put(&checkout.tree.join("src/secret.key"), "not for the repository\n");
    chmod(&checkout.tree.join(".git/hooks/pre-commit"), 0o644);
    fs::remove_file(checkout.tree.join(".git/hooks/post-commit")).expect("ours");
    checkout.git(&["config", "core.autocrlf", "true"]);
    operator.service("start");
    bot.saw(COMMITTED, COMMITTED);
    let secret = checkout.tree.join("src/secret.key");
    until("it is committed", || checkout.has("src/secret.key").then_some(()));

    let plan = operator.plan(&good);
    for line in [
        format!("delete {} (", secret.display()),
        format!("write {} (", work.display()),
        format!("create {} (", checkout.tree.join(".git/hooks/post-commit").display()),
        format!("chmod {} (0644 to 0755)", checkout.tree.join(".git/hooks/pre-commit").display()),
    ] {
        assert!(plan.contains(&line), "{line:?} is not planned: {plan}");
    }
    assert!(plan.contains("entries that the snapshot does not have"), "commits since are named: {plan}");

    let restored = operator.restore(&good);
    bot.saw(COMMITTED, COMMITTED);
    checkout.is_sound_while_nobody_commits(&operator, "restored");
    assert!(!checkout.has("src/secret.key"), "the commit of the secret is gone");
    assert_eq!(fs::read_to_string(&work).ok().as_deref(), Some("file 30\n"));
    let hook = fs::metadata(checkout.tree.join(".git/hooks/pre-commit")).expect("it is back");
    assert_eq!(hook.permissions().mode() & 0o777, 0o755);
    checkout.hook_refuses(&operator);
    restored.bring_back(&operator, &secret);
    bot.saw(COMMITTED, COMMITTED);
    checkout.is_sound_while_nobody_commits(&operator, "with one path brought back");

    operator.restore_by(&restored.undo);
    bot.saw(COMMITTED, COMMITTED);
    checkout.is_sound_while_nobody_commits(&operator, "undone");
    assert!(checkout.has("src/secret.key"), "the commit of the secret is back");
    assert!(!checkout.tree.join(".git/hooks/post-commit").exists());

    // With the bot gone, the broken state can be compared to the last byte.
    drop(bot);
    let broken = Aside::of(ground.path().join("broken"), std::slice::from_ref(&checkout.tree));
    let restored = operator.restore(&good);
    checkout.is_sound("restored again");
    let at_good = checkout.head();
    operator.restore_by(&restored.undo);
    broken.assert_same("undone again");
    operator.restore(&good);
    assert_eq!(checkout.head(), at_good);
    operator.capture();
    let plan = operator.plan(&operator.newest());
    assert!(plan.starts_with("nothing to do"), "{plan}");
    Told::Whole
}

impl Checkout {
    fn make(&self) {
        fs::create_dir_all(&self.tree).expect("the ground can be written to");
        self.git(&["init", "-q"]);
        for (key, value) in [("user.name", "bot"), ("user.email", "bot@localhost"), ("gc.auto", "0")] {
            self.git(&["config", key, value]);
        }
        for number in 0..40 {
            put(&self.tree.join(format!("src/{number}")), &format!("file {number}\n"));
        }
        let refuses = "#!/bin/sh\n! grep -rq FORBIDDEN src || { echo 'the hook refuses' >&2; exit 1; }\n";
        put_program(&self.tree.join(".git/hooks/pre-commit"), refuses);
        let deployed = "#!/bin/sh\ngit rev-parse HEAD >>.git/deployed\n";
        put_program(&self.tree.join(".git/hooks/post-commit"), deployed);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "the first"]);
    }

    /// Holds the bot between two commits, and lets it go on.
    fn gate(&self) -> String {
        format!(
            r#"#!/bin/sh
cd {folder}
case $1 in
close)
    touch bot.closed
    for try in $(seq 1000); do test -e bot.busy || exit 0; sleep 0.01; done
    exit 1 ;;
open) rm -f bot.closed ;;
status) test ! -e bot.closed || exit 3 ;;
esac
"#,
            folder = self.tree.parent().expect("it is on a ground").display(),
        )
    }

    /// Changes a file and commits it, all the time that the gate is open.
    fn bot(&self) -> Load {
        let tree = self.tree.clone();
        let (busy, closed) = (tree.with_file_name("bot.busy"), tree.with_file_name("bot.closed"));
        Load::of(move |number| {
            until("the gate is open", || {
                fs::write(&busy, "").expect("the ground can be written to");
                let is_open = !closed.exists();
                if !is_open {
                    fs::remove_file(&busy).expect("ours");
                }
                is_open.then_some(())
            });
            let committed = change_and_commit(&tree, number);
            fs::remove_file(&busy).expect("ours");
            match committed {
                Said { code: 0, .. } => "committed".to_owned(),
                Said { code, out, err } => format!("{code}: {out}{err}"),
            }
        })
    }

    #[track_caller]
    fn git(&self, arguments: &[&str]) -> String {
        let said = git(&self.tree, arguments);
        assert_eq!(said.code, 0, "git {arguments:?}: {said:?}");
        said.out
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Whether the newest commit has a file.
    fn has(&self, path: &str) -> bool {
        git(&self.tree, &["cat-file", "-e", &format!("HEAD:{path}")]).code == 0
    }

    /// Every object that anything names is there.
    #[track_caller]
    fn is_sound(&self, when: &str) {
        let said = git(&self.tree, &["fsck", "--full", "--no-dangling"]);
        assert_eq!(said.code, 0, "{when}: {said:?}");
    }

    /// The same, between two commits.
    #[track_caller]
    fn is_sound_while_nobody_commits(&self, operator: &Operator, when: &str) {
        operator.service("stop");
        self.is_sound(when);
        operator.service("start");
    }

    /// The hook that came back does its work: what it refuses is not committed.
    fn hook_refuses(&self, operator: &Operator) {
        operator.service("stop");
        let forbidden = self.tree.join("src/forbidden");
        put(&forbidden, "FORBIDDEN\n");
        self.git(&["add", "src/forbidden"]);
        let said = git(&self.tree, &["commit", "-m", "past the hook"]);
        assert!(said.code != 0 && said.err.contains("the hook refuses"), "{said:?}");
        self.git(&["rm", "-q", "-f", "src/forbidden"]);
        operator.service("start");
    }
}

fn git(tree: &Path, arguments: &[&str]) -> Said {
    run(Command::new(installed("git")).arg("-C").arg(tree).args(arguments))
}

fn change_and_commit(tree: &Path, number: u64) -> Said {
    put(&tree.join("src/counter"), &format!("{number}\n"));
    let added = git(tree, &["add", "-A"]);
    match added.code {
        0 => git(tree, &["commit", "-q", "-m", &format!("change {number}")]),
        _ => added,
    }
}
