//! Finds the processes of a service, and ends them.
//!
//! A process belongs to a service when the agent started it for the service, when it is in the control group of a unit that
//! the service's commands name, or when its program, or the script that it runs, lies in the files that the service uses. Programs of the whole system lie in no files of one service, whatever it
//! uses. One that has a terminal is a person's, and is let be. What such a process has started belongs to the service too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};

/// A process that was found: its id, and when it began, so that it is no other one of the same id.
type Found = (u32, String);

/// By what the processes of a service are known.
#[derive(Debug)]
pub(crate) struct Mark<'a> {
    /// What the agent hands on to each program that it runs for the service.
    pub(crate) environment: [(&'a str, &'a str); 2],
    /// The files that it uses.
    pub(crate) roots: &'a [PathBuf],
    /// The units that its commands name.
    pub(crate) units: Vec<String>,
}

/// What the kernel says of a process.
struct Process {
    id: u32,
    parent: u32,
    has_terminal: bool,
    birth: String,
}

/// Where the programs of the whole system lie, among them those that run the scripts of services.
const SYSTEM: [&str; 9] =
    ["/bin", "/sbin", "/lib", "/lib64", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/usr/libexec"];

/// How often an ended process is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// The ids of a service's processes.
pub(crate) fn find(mark: &Mark<'_>) -> Vec<u32> {
    belonging(mark).into_iter().map(|(id, _)| id).collect()
}

/// Ends a service's processes: asks them to, and after `patience` does not ask. Returns how many there were, and which are
/// still there.
pub(crate) fn end(mark: &Mark<'_>, patience: Duration) -> (usize, Vec<u32>) {
    let found = belonging(mark);
    signal(&found, Signal::TERM);
    let still = wait(&found, patience);
    signal(&still, Signal::KILL);
    let still = wait(&still, Duration::from_secs(5));
    (found.len(), still.into_iter().map(|(id, _)| id).collect())
}

fn belonging(mark: &Mark<'_>) -> Vec<Found> {
    let processes: Vec<Process> = all();
    let ours = ancestors(&processes);
    let mut ids: BTreeSet<u32> = processes
        .iter()
        .filter(|process| !process.has_terminal && !ours.contains(&process.id) && is_marked(process.id, mark))
        .map(|process| process.id)
        .collect();
    // What they started, and what that started.
    loop {
        let before = ids.len();
        let is_child = |process: &&Process| ids.contains(&process.parent) && !ours.contains(&process.id);
        let children: Vec<u32> = processes.iter().filter(is_child).map(|process| process.id).collect();
        ids.extend(children);
        if ids.len() == before {
            break;
        }
    }
    let of = |process: Process| ids.contains(&process.id).then_some((process.id, process.birth));
    processes.into_iter().filter_map(of).collect()
}

/// This process, and those above it.
fn ancestors(processes: &[Process]) -> BTreeSet<u32> {
    let mut ids = BTreeSet::from([1]);
    let mut next = u32::try_from(getpid().as_raw_nonzero().get()).ok();
    while let Some(id) = next.filter(|id| ids.insert(*id)) {
        next = processes.iter().find(|process| process.id == id).map(|process| process.parent);
    }
    ids
}

fn is_marked(id: u32, mark: &Mark<'_>) -> bool {
    let inside = |path: &Path| mark.roots.iter().any(|root| path.starts_with(root) && tells_a_service(root));
    let groups = fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap_or_default();
    if is_in_group(&groups, &mark.units) {
        return true;
    }
    let program = fs::read_link(format!("/proc/{id}/exe"));
    if program.is_ok_and(|program| inside(&program)) {
        return true;
    }
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    let has = |(name, value): (&str, &str)| {
        let wanted = format!("{name}={value}");
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    };
    if mark.environment.into_iter().all(has) {
        return true;
    }
    // An interpreter names its script first among its arguments.
    let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let mut words = arguments.split(|byte| *byte == 0).skip(1).filter(|word| !word.starts_with(b"-"));
    words
        .next()
        .and_then(|word| std::str::from_utf8(word).ok())
        .is_some_and(|script| inside(Path::new(script)))
}

/// Whether the lines of `/proc/ID/cgroup` name the group of a unit, or one within it. Above a unit of the host are slices
/// alone; one of the same name in a container, or of a user, is below something else.
fn is_in_group(groups: &str, units: &[String]) -> bool {
    let path = |line: &str| line.splitn(3, ':').nth(2).unwrap_or_default().to_owned();
    let is_slice = |part: &&str| part.is_empty() || part.ends_with(".slice");
    groups.lines().any(|line| {
        let path = path(line);
        let first = path.split('/').find(|part| !is_slice(part));
        first.is_some_and(|first| units.iter().any(|unit| unit == first))
    })
}

/// Whether a program in this tree is one of the service that uses the tree.
fn tells_a_service(root: &Path) -> bool {
    let is_program =
        root.parent().is_some_and(|above| SYSTEM.iter().any(|system| above == Path::new(system)));
    let is_shared = SYSTEM.iter().any(|system| Path::new(system).starts_with(root));
    !is_shared && (!is_program || root.is_dir())
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let id = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
    entries.flatten().filter_map(id).filter_map(read).collect()
}

fn read(id: u32) -> Option<Process> {
    parse(id, &fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// Reads a line of `/proc/ID/stat`; none of one that is dead.
fn parse(id: u32, stat: &str) -> Option<Process> {
    // The name in parentheses may hold anything, so the fields are counted from its end.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, parent) = (*fields.first()?, fields.get(1)?.parse().ok()?);
    let has_terminal = *fields.get(4)? != "0";
    let birth = (*fields.get(19)?).to_owned();
    (!matches!(state, "Z" | "X")).then_some(Process { id, parent, has_terminal, birth })
}

fn is_there((id, birth): &Found) -> bool {
    read(*id).is_some_and(|process| process.birth == *birth)
}

fn signal(found: &[Found], signal: Signal) {
    for (id, _) in found.iter().filter(|found| is_there(found)) {
        if let Some(id) = i32::try_from(*id).ok().and_then(Pid::from_raw) {
            // An error means that it is gone.
            let _ = kill_process(id, signal);
        }
    }
}

fn wait(found: &[Found], patience: Duration) -> Vec<Found> {
    let begun = Instant::now();
    loop {
        let still: Vec<Found> = found.iter().filter(|found| is_there(found)).cloned().collect();
        if still.is_empty() || begun.elapsed() >= patience {
            return still;
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_what_the_kernel_writes() {
        let stat = "4242 (a) b (c) S 17 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        let process = parse(4242, stat).expect("alive");
        assert_eq!((process.parent, process.has_terminal, process.birth.as_str()), (17, false, "987654"));
        assert!(
            parse(1, "1 (x) Z 17 1 1 34816 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 9 0 0 0").is_none(),
            "it is dead"
        );
    }

    #[test]
    fn this_process_and_those_above_it_are_never_a_services() {
        let ours = ancestors(&all());
        assert!(ours.contains(&std::process::id()));
        let environment = [("RFS_COMPONENT", "nobody"), ("RFS_STORE", "/nowhere")];
        let mark = Mark { environment, roots: &[PathBuf::from("/")], units: Vec::new() };
        assert!(find(&mark).iter().all(|id| !ours.contains(id)));
    }

    #[test]
    fn a_unit_has_the_processes_of_its_control_group_and_of_those_within() {
        let units = ["app.service".to_owned()];
        let is = |groups: &str| is_in_group(groups, &units);
        assert!(is("0::/system.slice/app.service\n"));
        assert!(is("3:cpu:/\n1:name=systemd:/system.slice/app.service/worker\n"));
        assert!(is("0::/system.slice/system-app.slice/app.service\n"));
        assert!(!is("0::/system.slice/my-app.service\n"));
        // Another's unit of the same name: a container's, and a user's.
        assert!(!is("0::/lxc.payload.c1/system.slice/app.service\n"));
        assert!(!is("0::/machine.slice/c1.scope/payload/system.slice/app.service\n"));
        assert!(!is("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app.service\n"));
        assert!(!is("0::/user.slice/user-0.slice/session-1.scope\n"));
        assert!(!is_in_group("0::/system.slice/app.service\n", &[]));
    }

    #[test]
    fn a_tree_that_holds_programs_of_the_whole_system_tells_nothing_of_a_service() {
        for root in ["/", "/usr", "/usr/bin", "/bin", "/usr/lib", "/usr/bin/env"] {
            assert!(!tells_a_service(Path::new(root)), "{root}");
        }
        for root in ["/srv/site", "/opt", "/usr/local/site", "/usr/share"] {
            assert!(tells_a_service(Path::new(root)), "{root}");
        }
    }
}
