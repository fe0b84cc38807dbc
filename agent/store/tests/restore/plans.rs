//! What is planned, as a person reads it. Trees are written in one line each:
//! `a/` a folder, `a/f=text` a file, `f#1=text` one of several names of file 1, `l->to` a link, `p|` a named pipe,
//! `s!` a socket, `c@1:3` a device; `:600` behind any is its mode, `^9` its time. The root is `/srv`.

use rfs_model::Digest;
use rfs_store::restore::{Change, PathSet, PlanError, Rules, Selection, plan};
use rfs_store::text::ByteText;
use rfs_store::tree::{Entry, EntryKind, Extent, Meta, Root, Tree};

fn tree(text: &str) -> Tree {
    let mut entries: Vec<Entry> = text.split_whitespace().map(entry).collect();
    if !text.is_empty() && entries.first().is_none_or(|entry| !entry.path.is_empty()) {
        entries.insert(0, entry("/"));
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Tree { roots: vec![Root { path: b"/srv".to_vec(), entries }] }
}

fn entry(text: &str) -> Entry {
    let (text, time) = text.split_once('^').map_or((text, 1), |(t, n)| (t, n.parse().expect("a time")));
    let (text, mode) = match text.rsplit_once(':') {
        Some((rest, mode)) if !rest.contains('@') => (rest, u32::from_str_radix(mode, 8).expect("a mode")),
        _ => (text, 0o644),
    };
    let meta = Meta { mode, uid: 0, gid: 0, mtime_seconds: time, mtime_nanos: 0, xattrs: Vec::new() };
    let at = |path: &str, kind| Entry { path: path.as_bytes().to_vec(), meta: meta.clone(), kind };
    if let Some((path, to)) = text.split_once("->") {
        return at(path, EntryKind::Symlink(to.as_bytes().to_vec()));
    }
    if let Some((path, content)) = text.split_once('=') {
        let (path, link) =
            path.split_once('#').map_or((path, None), |(p, n)| (p, Some(n.parse().expect("a number"))));
        let digest = Digest::from_bytes(*blake3::hash(content.as_bytes()).as_bytes());
        let length = content.len() as u64;
        return at(
            path,
            EntryKind::File { size: length, content: vec![Extent::Data { digest, length }], link },
        );
    }
    if let Some((path, number)) = text.split_once('@') {
        let (major, minor) = number.split_once(':').expect("two numbers");
        let (major, minor) = (major.parse().expect("a number"), minor.parse().expect("a number"));
        return at(path, EntryKind::CharDevice { major, minor });
    }
    match text.split_at(text.len() - 1) {
        (path, "/") => at(path, EntryKind::Directory),
        (path, "|") => at(path, EntryKind::Fifo),
        (path, "!") => at(path, EntryKind::Socket),
        _ => panic!("{text} is nothing"),
    }
}

fn only(paths: &[&str]) -> Rules {
    Rules { selection: Selection::Only(PathSet::new(paths).expect("paths")), ..Rules::default() }
}

fn protect(paths: &[&str]) -> Rules {
    Rules { protect: PathSet::new(paths).expect("paths"), ..Rules::default() }
}

#[track_caller]
fn check_with(rules: &Rules, current: &str, target: &str, expected: &[&str]) {
    let planned = match plan(&tree(current), &tree(target), rules) {
        Ok(plan) => plan.steps().iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    };
    assert_eq!(planned, expected, "{current} ─▶ {target}");
}

#[track_caller]
fn check(current: &str, target: &str, expected: &[&str]) {
    check_with(&Rules::default(), current, target, expected);
}

#[test]
fn equal_trees_need_nothing() {
    check("", "", &[]);
    check("a/ a/f=x l->f p|", "a/ a/f=x l->f p|", &[]);
    check("a#1=x b#1=x", "a#7=x b#7=x", &[]);
}

#[test]
fn every_difference_is_one_line() {
    check("a=x", "a=hello", &["write /srv/a (5 B)"]);
    check("a=x", "a=x b=y", &["create /srv/b (1 B)"]);
    check("a=x b=y", "a=x", &["delete /srv/b (1 B)"]);
    check("a=x:644", "a=x:600", &["chmod /srv/a (0644 to 0600)"]);
    check("a=x^1", "a=x^60", &["touch /srv/a (1970-01-01T00:00:01.000Z to 1970-01-01T00:01:00.000Z)"]);
    check(
        "a=x:644^1",
        "a=x:600^2",
        &["adjust /srv/a (chmod 0644 to 0600, touch 1970-01-01T00:00:01.000Z to 1970-01-01T00:00:02.000Z)"],
    );
    check("l->a", "l->b", &["link /srv/l -> b"]);
    check("x=1", "x=1 p|", &["create /srv/p (named pipe)"]);
}

#[test]
fn a_whole_folder_is_one_step() {
    check("x/", "x/ a/ a/b/ a/b/f=hello a/g=you", &["create /srv/a/ (folder of 3 entries, 8 B)"]);
    check("a/ a/b/ a/b/f=x a-b=1", "a-b=1", &["delete /srv/a/ (folder of 2 entries, 1 B)"]);
    check("a/ a/f=x a-b/ a-b/f=y a.b=z", "", &["delete /srv/ (folder of 5 entries, 3 B)"]);
    check("", "f=hello", &["create /srv/ (folder of 1 entry, 5 B)"]);
    check("x=1", "x=1 a/", &["create /srv/a/ (empty folder)"]);
}

#[test]
fn one_kind_replaces_another() {
    check("a/ a/f=x", "a=x", &["write /srv/a (1 B), was folder of 1 entry, 1 B"]);
    check("a=x", "a/ a/f=x", &["write /srv/a/ (folder of 1 entry, 1 B), was 1 B"]);
    check("a=x", "a->b", &["link /srv/a -> b, was 1 B"]);
    check("=x", "/ a=x", &["write /srv/ (folder of 1 entry, 1 B), was 1 B"]);
}

#[test]
fn the_time_of_a_folder_is_a_line_only_where_nothing_else_disturbs_it() {
    check("a/^1 a/f=x", "a/^2 a/f=y", &["write /srv/a/f (1 B)"]);
    check(
        "a/^1 a/f=x",
        "a/^2 a/f=x",
        &["touch /srv/a (1970-01-01T00:00:01.000Z to 1970-01-01T00:00:02.000Z)"],
    );
}

#[test]
fn names_of_one_file_are_linked_and_not_written_twice() {
    check("x=1", "x=1 a#1=hello b#1=hello", &["create /srv/a (5 B)", "link /srv/b = /srv/a"]);
    check("a=x b=x", "a#1=x b#1=x", &["link /srv/b = /srv/a"]);
    check("a#1=x b#1=x", "a=x b=x", &["write /srv/b (1 B)"]);
    check("a#1=x b#1=x c=y", "a=x b#1=y c#1=y", &["link /srv/b = /srv/c"]);
    check("a#1=x:644 b#1=x:644", "a#1=x:600 b#1=x:600", &["chmod /srv/a (0644 to 0600)"]);
    let (current, target) = (tree("x=1"), tree("x=1 a/ a/1#1=hello b#1=hello"));
    let planned = plan(&current, &target, &Rules::default()).expect("a plan");
    assert_eq!(planned.counts().bytes.0, 5);
}

#[test]
fn sockets_are_left_to_their_services() {
    check("", "s!", &["create /srv/ (empty folder)"]);
    check("a/ s!", "a/", &[]);
    check("a/ a/s! a/f=1", "x/", &["create /srv/x/ (empty folder)", "delete /srv/a/f (1 B)"]);
    check("a/ a/b/ a/b/s! a/c/", "", &["delete /srv/a/c/ (empty folder)"]);
    check("a/ a/s!", "a=x", &["write /srv/a (1 B), was folder of 1 entry, 0 B"]);
    check("s!", "s=x", &["write /srv/s (1 B), was socket"]);
    check("s=x a=1", "s! a=1", &["delete /srv/s (1 B)"]);
}

#[test]
fn a_device_is_created_only_where_it_is_declared() {
    let refused = "/srv/c is a device file; write devices = true in its component to have it made, or leave it out with --accept-loss /srv/c";
    check("a=1", "a=1 c@1:3", &[refused]);
    check("a=1 c@1:3", "a=1", &["delete /srv/c (character device 1:3)"]);
    let declared = Rules { devices: true, ..Rules::default() };
    check_with(&declared, "a=1", "a=1 c@1:3", &["create /srv/c (character device 1:3)"]);
}

#[test]
fn a_selection_changes_what_it_holds_and_nothing_else() {
    let (now, then) = ("a/ a/f=1 b=1 new=1", "a/ a/f=2 a/g=2 b=2 old=2");
    check_with(&only(&["/srv/a"]), now, then, &["write /srv/a/f (1 B)", "create /srv/a/g (1 B)"]);
    check_with(&only(&["b"]), now, then, &["write /srv/b (1 B)"]);
    check_with(&only(&["*"]), "a=1 b=1", "a=2 b=1", &["write /srv/a (1 B)"]);
    check_with(&only(&["new", "/srv/old"]), now, then, &["delete /srv/new (1 B)", "create /srv/old (1 B)"]);
    check_with(
        &only(&["a/b/f"]),
        "x=1",
        "x=2 a/ a/b/ a/b/f=1 a/b/g=1 a/h=1",
        &["create /srv/a/ (folder of 2 entries, 1 B)"],
    );
    // The time of a folder that is not selected stays.
    check_with(&only(&["a/f"]), "a/^1 a/f=1", "a/^2 a/f=1", &[]);
}

#[test]
fn what_is_protected_stays_where_it_is() {
    check_with(&protect(&["**/*.key"]), "a=1 x.key=1", "a=2 x.key=2 y.key=2", &["write /srv/a (1 B)"]);
    check_with(
        &protect(&["a/id"]),
        "a/ a/id=1 a/f=1",
        "x=1",
        &["create /srv/x (1 B)", "delete /srv/a/f (1 B)"],
    );
    check_with(&protect(&["/srv"]), "a=1", "a=2", &[]);
    check_with(
        &protect(&["/srv/sub/deep"]),
        "sub/ sub/deep/ sub/deep/f=1 sub/g=1",
        "sub/ sub/g=2",
        &["write /srv/sub/g (1 B)"],
    );
}

#[test]
fn what_can_not_be_both_is_refused() {
    let stays = |path, above| {
        format!(
            "{path} stays as it is, but the target has no folder at {above}; select or protect both or neither"
        )
    };
    check_with(&protect(&["a/id"]), "a/ a/id=1", "a=1", &[&stays("/srv/a/id", "/srv/a")]);
    check_with(&only(&["a/f"]), "a=1", "a/ a/f=1", &[&stays("/srv/a/f", "/srv/a")]);
}

#[test]
fn a_selection_that_means_nothing_here_is_refused() {
    check_with(
        &only(&["/etc/passwd"]),
        "a=1",
        "a=2",
        &["/etc/passwd is outside this component, whose paths are: /srv"],
    );
    check_with(
        &only(&["typo"]),
        "a=1",
        "a=2",
        &["typo is neither in the snapshot nor on the host; nearest is /srv"],
    );
    check_with(
        &only(&["a/indx"]),
        "a/ a/index=1",
        "a/ a/index=2",
        &["a/indx is neither in the snapshot nor on the host; near it: /srv/a/index"],
    );
}

#[test]
fn a_tree_that_could_lead_astray_is_refused() {
    for (path, reason) in [
        ("../etc/passwd", "a path must have no empty part, no . and no .."),
        ("a/./b", "a path must have no empty part, no . and no .."),
        ("/etc/passwd", "a path must have no empty part, no . and no .."),
        ("gone/b", "its folder is missing"),
        ("f/b", "what it stands in is not a folder"),
    ] {
        let mut target = tree("f=x");
        target.roots[0].entries.push(entry(&format!("{path}=x")));
        target.roots[0].entries.sort_by(|a, b| a.path.cmp(&b.path));
        match plan(&tree("f=x"), &target, &Rules::default()) {
            Err(PlanError::Malformed { which: "snapshot", reason: found, .. }) => {
                assert_eq!(found, reason, "{path}")
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    let mut relative = tree("a=1");
    relative.roots[0].path = b"srv".to_vec();
    assert!(matches!(plan(&relative, &relative, &Rules::default()), Err(PlanError::Malformed { .. })));
}

#[test]
fn trees_of_other_roots_are_refused() {
    let mut other = tree("a=1");
    other.roots[0].path = b"/opt".to_vec();
    assert_eq!(
        plan(&tree("a=1"), &other, &Rules::default()).expect_err("other roots").to_string(),
        "/opt is in the snapshot only; scan the live host with the roots of the snapshot"
    );
    let mut both = tree("a=1");
    both.roots.push(Root { path: b"/srv/a".to_vec(), entries: Vec::new() });
    assert_eq!(
        plan(&both, &both, &Rules::default()).expect_err("nested roots").to_string(),
        "/srv/a lies beneath /srv; a component's paths must not overlap"
    );
}

#[test]
fn what_is_no_entry_stays_with_the_folders_above_it() {
    let stays = |paths: &[&str]| Rules {
        stays: paths.iter().map(|path| ByteText::from(path.as_bytes())).collect(),
        ..Rules::default()
    };
    let steps = |now: &str, then: &str, rules: &Rules| {
        let plan = plan(&tree(now), &tree(then), rules).expect("a plan");
        plan.steps().iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    };
    let now = "a/ r/ r/2/ r/2/code=x r/2/log/ r/3/ r/3/code=y";
    assert_eq!(
        steps(now, "a/", &stays(&["/srv/r/2/log/app.log"])),
        "delete /srv/r/3/ (folder of 1 entry, 1 B) | delete /srv/r/2/code (1 B)"
    );
    let error = plan(&tree(now), &tree("a/ r=file"), &stays(&["/srv/r/2/log/app.log"]))
        .expect_err("it is in the way");
    assert!(error.to_string().contains("/srv/r"), "{error}");
}

#[test]
fn extras_that_are_kept_stay_and_what_the_target_has_comes_back() {
    let rules = Rules { keep: PathSet::new(&["up/**"]).expect("a pattern"), ..Rules::default() };
    let plan = plan(&tree("up/ up/a=new up/b=x c=1"), &tree("up/ up/b=y"), &rules).expect("a plan");
    let steps: Vec<_> = plan.steps().iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["delete /srv/c (1 B)", "write /srv/up/b (1 B)"]);
}

#[test]
fn the_time_of_a_folder_in_which_excluded_names_may_come_and_go_is_no_step() {
    let rules = protect(&["run/**", "**/*.log"]);
    let plan_of = |now: &str, then: &str| plan(&tree(now), &tree(then), &rules).expect("a plan");
    assert!(plan_of("run/^5 a/^5", "run/^9 a/^9").is_empty());
    assert!(!plan_of("run/:700^5", "run/^9").is_empty(), "its mode says something");
    assert!(!plan(&tree("a/^5"), &tree("a/^9"), &protect(&["run/**"])).expect("a plan").is_empty());
}

#[test]
fn losses_are_listed_path_by_path() {
    let (current, target) = (tree("a/ a/f=1 a/g/ a/g/h=1 b=1 c/ c/x=1"), tree("b=2 c=2"));
    let planned = plan(&current, &target, &Rules::default()).expect("a plan");
    let text = |paths: Vec<Vec<u8>>| {
        paths.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        text(planned.deleted().collect()),
        ["/srv/a", "/srv/a/f", "/srv/a/g", "/srv/a/g/h", "/srv/c/x"]
    );
    assert_eq!(text(planned.overwritten().map(<[u8]>::to_vec).collect()), ["/srv/b", "/srv/c"]);
    let counts = planned.counts();
    assert_eq!((counts.created, counts.replaced, counts.deleted, counts.adjusted), (0, 2, 5, 0));
}

#[test]
fn what_goes_and_no_snapshot_brings_back_is_told_apart() {
    let now = tree("a! b/ b/s! c@1:3 d=1 e/ e/f| e/g@8:0 h!");
    let planned = plan(&now, &tree("a=1 b=2 d=1"), &Rules::default()).expect("a plan");
    let unkept = |devices| {
        let paths = planned.unkept(devices).map(|(_, path)| String::from_utf8_lossy(&path).into_owned());
        paths.collect::<Vec<_>>()
    };
    assert_eq!(unkept(true), ["/srv/a", "/srv/b/s"], "a socket that is alone stays");
    assert_eq!(unkept(false), ["/srv/a", "/srv/b/s", "/srv/c", "/srv/e/g"]);
}

/// Brings a tree from one state of its metadata to another.
fn between(text: &str, before: &dyn Fn(&mut Meta), after: &dyn Fn(&mut Meta)) -> Vec<Change> {
    let changed = |change: &dyn Fn(&mut Meta)| {
        let mut tree = tree(text);
        for entry in tree.roots[0].entries.iter_mut().filter(|entry| !entry.path.is_empty()) {
            change(&mut entry.meta);
        }
        tree
    };
    let planned = plan(&changed(before), &changed(after), &Rules::default()).expect("a plan");
    planned.steps().iter().map(|step| step.change.clone()).collect()
}

/// A descriptor that is open outlives a change of owner and mode.
#[test]
fn what_somebody_else_may_hold_open_is_written_anew() {
    #[track_caller]
    fn check(text: &str, before: &dyn Fn(&mut Meta), after: &dyn Fn(&mut Meta), is_anew: bool) {
        let steps = between(text, before, after);
        assert!(!steps.is_empty(), "{text}");
        for step in &steps {
            assert_eq!(matches!(step, Change::Replace { .. }), is_anew, "{text}: {step:?}");
        }
    }
    let as_it_is: fn(&mut Meta) = |meta| meta.gid = 5;
    for text in ["f=1", "p|", "f#1=x g#1=x"] {
        let changes: [(fn(&mut Meta), bool); 10] = [
            (|meta| meta.uid = 1000, true),
            (|meta| meta.mode |= 0o4000, true),
            (|meta| meta.mode |= 0o002, true),
            (|meta| meta.mode |= 0o020, true),
            (|meta| (meta.gid, meta.mode) = (6, 0o664), true),
            (|meta| meta.xattrs = vec![(b"system.posix_acl_access".to_vec(), vec![2])], true),
            (|meta| meta.xattrs = vec![(b"security.capability".to_vec(), vec![1])], true),
            // Nobody gains by these.
            (|meta| meta.gid = 6, false),
            (|meta| meta.mode = 0o600, false),
            (|meta| meta.xattrs = vec![(b"user.note".to_vec(), vec![1])], false),
        ];
        for (change, is_anew) in changes {
            let changed = |meta: &mut Meta| {
                as_it_is(meta);
                change(meta);
            };
            check(text, &as_it_is, &changed, is_anew);
            check(text, &changed, &as_it_is, is_anew);
        }
        check(
            text,
            &|meta| (meta.gid, meta.mode) = (5, 0o2755),
            &|meta| (meta.gid, meta.mode) = (6, 0o2755),
            true,
        );
        check(
            text,
            &|meta| (meta.gid, meta.mode) = (0, 0o664),
            &|meta| (meta.gid, meta.mode) = (0, 0o644),
            false,
        );
    }
    let of_bob = |meta: &mut Meta| meta.uid = 1000;
    // What is in a folder is looked at by itself, and a link has no data.
    check("d/", &of_bob, &as_it_is, false);
    check("l->x", &of_bob, &as_it_is, false);
}

#[test]
fn a_plan_survives_its_journal() {
    let planned = plan(&tree("a=1 l->x"), &tree("a/ a/f=2 l->y:600 p|"), &Rules::default()).expect("a plan");
    let text = serde_json::to_string(&planned).expect("JSON");
    assert_eq!(serde_json::from_str::<rfs_store::restore::FilesPlan>(&text).expect("the same"), planned);
}
