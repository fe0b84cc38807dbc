//! Links above a path, and links as paths: a restore goes where the capture went, or is refused.

use rfs_agent::commander::Selection;
use rfs_agent::component::choices::Choices;
use rfs_model::{Reason, Standing};
use rfs_store::Cancel;

use crate::bed::{Bed, capture, everything, order, restore, try_restore};
use crate::taken::{notes_of_plan, reached, with};

#[test]
fn a_link_above_a_path_that_leads_elsewhere_now_is_refused_until_it_is_accepted() {
    let mut bed = Bed::new();
    bed.more = "[[component]]\nname = \"web\"\nkind = \"files\"\npaths = [\"ROOT/current/www\"]".into();
    for release in ["1", "2"] {
        std::fs::create_dir_all(bed.path("releases").join(release).join("www")).expect("writable");
        bed.write(&format!("releases/{release}/www/page"), release);
    }
    let link = |name: &str, to: &str| {
        let _ = std::fs::remove_file(bed.path(name));
        std::os::unix::fs::symlink(to, bed.path(name)).expect("writable");
    };
    // A chain, of which the second link is the one that a deploy moves.
    link("current", "stable");
    link("stable", "releases/1");
    let engine = bed.engine();
    let info = capture(&engine).info;
    let good = info.id;
    let said = info.components.iter().flat_map(|part| part.notes.clone()).collect::<Vec<_>>().join("\n");
    assert!(
        said.contains("current/www is reached through") && said.contains("stable -> releases/1"),
        "{said}"
    );
    // The same place by another way is no difference.
    link("current", "releases/../stable");
    bed.write("releases/1/www/page", "broken");
    let notes = notes_of_plan(&engine, good);
    assert!(notes.contains("at the capture: ") && notes.contains("stable -> releases/1"), "{notes}");
    reached(&restore(&engine, good));
    assert_eq!(bed.read("releases/1/www/page"), "1");

    link("stable", "releases/2");
    let plan = engine.plan(good, &everything(), &Cancel::new()).expect("plans");
    let obstacle = plan.obstacle.expect("it leads to another release");
    assert_eq!(obstacle.reason, Reason::LossNotAccepted);
    for text in ["stable -> releases/1", "stable -> releases/2", "--accept-loss"] {
        assert!(obstacle.message.contains(text), "{obstacle:?}");
    }
    let told = bed.told();
    assert_eq!(restore(&engine, good).standing, Standing::Before);
    assert_eq!((bed.read("releases/2/www/page"), bed.told()), ("2".into(), told));
    let accept =
        Choices { accept_loss: vec![bed.path("current/www").display().to_string()], ..Choices::default() };
    let receipt = try_restore(&engine, with(accept, good)).expect("begins");
    reached(&receipt);
    assert!(receipt.notes.iter().any(|note| note.contains("it is restored through")), "{:?}", receipt.notes);
    assert_eq!((bed.read("releases/2/www/page"), bed.read("releases/1/www/page")), ("1".into(), "1".into()));
    // The backup was taken by the way that is there now.
    reached(&restore(&engine, receipt.backup.expect("a backup")));
    assert_eq!(bed.read("releases/2/www/page"), "2");

    // A link that is gone is another way too: nothing is made in its place.
    std::fs::remove_file(bed.path("current")).expect("ours");
    assert_eq!(restore(&engine, good).standing, Standing::Before);
    assert!(!bed.path("current").exists());
}

/// Two releases, and the links that lead to them.
struct Releases(Bed);

impl Releases {
    fn new(paths: &str, keys: &str) -> Self {
        let mut bed = Bed::new();
        bed.more = format!("[[component]]\nname = \"web\"\nkind = \"files\"\npaths = [{paths}]\n{keys}");
        for release in ["1", "2"] {
            std::fs::create_dir_all(bed.path("releases").join(release)).expect("writable");
            bed.write(&format!("releases/{release}/page"), release);
        }
        Self(bed)
    }

    fn link(&self, name: &str, to: &str) {
        let _ = std::fs::remove_file(self.0.path(name));
        std::os::unix::fs::symlink(to, self.0.path(name)).expect("writable");
    }

    fn path(&self, path: &str) -> Selection {
        Selection { paths: [self.0.path(path)].into(), ..Selection::default() }
    }
}

#[test]
fn a_path_behind_a_link_is_the_path_behind_it_or_is_refused() {
    let host = Releases::new("\"ROOT/current\"", "follow_roots = true");
    host.link("current", "releases/1");
    let engine = host.0.engine();
    let good = capture(&engine).info.id;
    host.0.write("releases/1/page", "broken");
    host.0.write("site/index.html", "v2");
    let plan = engine.plan(good, &host.path("current/page"), &Cancel::new()).expect("plans");
    assert!(plan.notes.iter().any(|note| note.contains("behind the link")), "{:?}", plan.notes);
    reached(&try_restore(&engine, order(good, host.path("current/page"))).expect("begins"));
    assert_eq!((host.0.read("current/page"), host.0.read("site/index.html")), ("1".into(), "v2".into()));
    // The place itself is as good a name.
    host.0.write("releases/1/page", "broken");
    reached(&try_restore(&engine, order(good, host.path("releases/1/page"))).expect("begins"));
    assert_eq!(host.0.read("current/page"), "1");

    // Once the link leads elsewhere, a path beneath it no longer says what is meant.
    host.link("current", "releases/2");
    host.0.write("releases/1/page", "broken");
    let refused =
        engine.plan(good, &host.path("current/page"), &Cancel::new()).expect_err("it is two things");
    for text in ["releases/1", "releases/2", "--path"] {
        assert!(refused.message.contains(text), "{refused:?}");
    }
    reached(&try_restore(&engine, order(good, host.path("current"))).expect("begins"));
    assert_eq!((host.0.read("current/page"), host.0.read("releases/2/page")), ("1".into(), "2".into()));
}

#[test]
fn a_path_behind_a_link_that_was_kept_alone_is_refused() {
    let host = Releases::new("\"ROOT/current\"", "follow_roots = false");
    host.link("current", "releases/1");
    let engine = host.0.engine();
    let good = capture(&engine).info.id;
    let refused = engine.plan(good, &host.path("current/page"), &Cancel::new()).expect_err("it is not there");
    assert_eq!(refused.reason, Reason::PathOutsideComponent);
    assert!(refused.message.contains("follow_roots = true"), "{refused:?}");
    let refused =
        engine.plan(good, &host.path("releases/1/page"), &Cancel::new()).expect_err("it is not there");
    assert!(refused.next.contains("current"), "{refused:?}");
}

#[test]
fn a_path_that_is_nowhere_is_refused_with_what_is_near() {
    let bed = Bed::new();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let near = |path: &str| {
        let paths = Selection { paths: [bed.path(path)].into(), ..Selection::default() };
        engine.plan(good, &paths, &Cancel::new()).expect_err(path).message
    };
    for (path, said) in [
        ("site/indx.html", "near it: "),
        ("site/indx.html", "site/index.html"),
        ("site/assets/none/at/all", "nearest is "),
        ("site/current/x", "is a link to assets/v1.css"),
    ] {
        assert!(near(path).contains(said), "{}", near(path));
    }
}

#[test]
fn every_link_of_a_chain_is_captured_and_put_back() {
    let host = Releases::new("\"ROOT/current\"", "follow_roots = true");
    host.link("current", "stable");
    host.link("stable", "releases/1");
    let engine = host.0.engine();
    let info = capture(&engine).info;
    let said = info.components.iter().flat_map(|part| part.notes.clone()).collect::<Vec<_>>().join("\n");
    assert!(said.contains("leads through it") && said.contains("is captured too"), "{said}");
    host.link("stable", "releases/2");
    host.0.write("releases/1/page", "broken");
    let receipt = restore(&engine, info.id);
    reached(&receipt);
    assert_eq!((host.0.read("current/page"), host.0.read("releases/2/page")), ("1".into(), "2".into()));
    reached(&restore(&engine, receipt.backup.expect("a backup")));
    assert_eq!((host.0.read("current/page"), host.0.read("releases/1/page")), ("2".into(), "broken".into()));
}

#[test]
fn paths_that_links_lead_together_are_refused_at_the_start() {
    let check = |paths: &str, keys: &str, more: &str, links: &[(&str, &str)]| {
        let mut host = Releases::new(paths, keys);
        host.0.more.push_str(more);
        links.iter().for_each(|(name, to)| host.link(name, to));
        host.0.engine().check_components().map_err(|refusal| refusal.message)
    };
    let follow = "follow_roots = true";
    let other = "\n[[component]]\nname = \"other\"\nkind = \"files\"\npaths = [\"ROOT/releases/1\"]";
    let at_1: &[(&str, &str)] = &[("current", "releases/1")];
    for (paths, keys, more, links) in [
        // Behind a link: a component's own path, another's, a path within or around it.
        ("\"ROOT/current\", \"ROOT/releases\"", follow, "", at_1),
        ("\"ROOT/current\", \"ROOT/releases/1/page\"", follow, "", at_1),
        ("\"ROOT/current\"", follow, other, at_1),
        ("\"ROOT/current\"", follow, other, &[("current", "stable"), ("stable", "releases")]),
        // Two links, one into what is behind the other.
        ("\"ROOT/current\", \"ROOT/all\"", follow, "", &[("current", "releases/1"), ("all", "releases")]),
        // A link above a path.
        ("\"ROOT/current/page\"", "", other, at_1),
        ("\"ROOT/current/page\", \"ROOT/releases\"", "", "", at_1),
    ] {
        let refused = check(paths, keys, more, links).expect_err(paths);
        assert!(refused.contains("a path belongs to one component"), "{refused}");
    }
    for (paths, keys, more, links) in [
        ("\"ROOT/current\", \"ROOT/releases\"", "follow_roots = false", "", at_1),
        ("\"ROOT/current\"", "follow_roots = false", other, at_1),
        // Two links to one place, of which nothing is captured twice.
        (
            "\"ROOT/current\", \"ROOT/previous\"",
            follow,
            "",
            &[("current", "releases/1"), ("previous", "releases/1")],
        ),
        ("\"ROOT/current\"", follow, "", &[("current", "nowhere")]),
    ] {
        assert_eq!(check(paths, keys, more, links), Ok(()), "{paths}");
    }
}

#[test]
fn the_agents_own_key_behind_a_link_is_never_rolled_back() {
    let mut bed = Bed::new();
    for folder in ["site/live", "site/archive"] {
        std::fs::create_dir(bed.path(folder)).expect("writable");
    }
    bed.write("site/archive/key1", "old key");
    std::os::unix::fs::symlink("../archive/key1", bed.path("site/live/key")).expect("writable");
    bed.more = "[coordinator]\nendpoints = [\"https://localhost:1\"]\n[tls]\nca = \"/etc/rfs/ca.pem\"\n\
         certificate = \"/etc/rfs/agent.pem\"\nkey = \"ROOT/site/live/key\""
        .into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.write("site/archive/key1", "renewed in place");
    bed.deploy("v2");
    reached(&restore(&engine, good));
    assert_eq!(
        (bed.read("site/live/key"), bed.read("site/index.html")),
        ("renewed in place".into(), "v1".into())
    );
    // Renewed as certbot does: a new file, and the link to it.
    bed.write("site/archive/key2", "new key");
    std::fs::remove_file(bed.path("site/live/key")).expect("ours");
    std::os::unix::fs::symlink("../archive/key2", bed.path("site/live/key")).expect("writable");
    bed.deploy("v2");
    reached(&restore(&engine, good));
    assert_eq!((bed.read("site/live/key"), bed.read("site/index.html")), ("new key".into(), "v1".into()));
}
