//! The systemd units that a service's commands name: a unit's processes are those of its control group, whoever started them.

use crate::config::Program;

/// The units that a command names, as their control groups are called.
pub(super) fn named(program: &Program) -> Vec<String> {
    match program.argv() {
        // A line for a shell is several commands.
        [shell, option, line] if option == "-c" && shell.ends_with("sh") => {
            let commands = line.split([';', '|', '&', '\n', '(', ')', '{', '}']);
            commands.flat_map(|command| in_words(command.split_whitespace())).collect()
        }
        words => in_words(words.iter().map(String::as_str)),
    }
}

fn in_words<'w>(words: impl Iterator<Item = &'w str>) -> Vec<String> {
    let words: Vec<&str> = words.collect();
    let name = |word: &&str| word.rsplit('/').next().unwrap_or_default().to_owned();
    for (at, word) in words.iter().enumerate() {
        let rest = words[at + 1..].iter().filter(|word| !word.starts_with('-'));
        match &*name(word) {
            "systemctl" => return rest.skip(1).filter_map(|word| unit(word)).collect(),
            "service" | "rc-service" | "invoke-rc.d" => {
                return rest.take(1).filter_map(|word| unit(word)).collect();
            }
            script if word.starts_with("/etc/init.d/") => return unit(script).into_iter().collect(),
            _ => {}
        }
    }
    Vec::new()
}

/// The unit that a word means. Only of services are the processes known by the unit.
fn unit(word: &str) -> Option<String> {
    let word = word.trim_matches(['"', '\'']);
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if word.is_empty() || !word.chars().all(plain) {
        return None;
    }
    match word.rsplit_once('.') {
        Some((_, "service")) => Some(word.to_owned()),
        Some((_, "socket" | "target" | "timer" | "path" | "mount" | "slice" | "scope" | "device")) => None,
        Some(_) | None => Some(format!("{word}.service")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, units: &[&str]) {
        assert_eq!(named(&Program::from_shell(line)), units, "{line}");
        let argv = line.split(' ').map(str::to_owned).collect();
        if !line.contains(';') {
            assert_eq!(named(&Program::from_argv(argv).expect("words")), units, "{line}");
        }
    }

    #[test]
    fn a_unit_is_found_in_the_command_that_names_it() {
        check("/usr/bin/systemctl stop app.service", &["app.service"]);
        check("systemctl --quiet is-active app@1", &["app@1.service"]);
        check("systemctl stop app worker.service app.socket", &["app.service", "worker.service"]);
        check("/usr/sbin/service nginx stop", &["nginx.service"]);
        check("/etc/init.d/app stop", &["app.service"]);
        check("cd /srv; /bin/systemctl stop app && rm -f /run/app", &["app.service"]);
        check("/srv/site/bin/ctl stop service", &[]);
        check("/usr/bin/site stop", &[]);
        check("systemctl stop $UNIT", &[]);
    }
}
