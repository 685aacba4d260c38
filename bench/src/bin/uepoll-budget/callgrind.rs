//! A program under callgrind, and what its profile says of one shared object.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A run takes half a second.
const LIMIT: Duration = Duration::from_secs(30);

/// What a run took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Instructions inside the library.
    pub instructions: u64,
    /// System calls of the whole process: the library makes some of them through libc.
    pub system_calls: u64,
}

/// Runs `program` with `library` preloaded, under callgrind.
pub fn run(program: &Path, arguments: &[&str], library: &Path) -> Result<Cost, String> {
    let profile =
        std::env::temp_dir().join(format!("uepoll-budget-{}.callgrind", std::process::id()));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--collect-systime=yes", "--quiet"]);
    command.arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(program).args(arguments);
    // For the program alone: valgrind itself is linked statically and does not care.
    command.env("LD_PRELOAD", library);
    let outcome = finish(&mut command);
    let text = fs::read_to_string(&profile);
    // It is ours alone, and gone or not makes no difference to the result.
    let _ = fs::remove_file(&profile);
    outcome?;
    let text = text.map_err(|error| format!("{}: {error}", profile.display()))?;
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    parse(&text, &name).ok_or_else(|| format!("callgrind's profile does not speak of {name}"))
}

fn finish(command: &mut Command) -> Result<(), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("valgrind: {error}"))?;
    let begin = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("the program under callgrind ended with {status}")),
            None if begin.elapsed() > LIMIT => {
                // One process, not waited for yet, so the number is still its own.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not finished after {} s under callgrind", LIMIT.as_secs()));
            }
            None => sleep(Duration::from_millis(5)),
        }
    }
}

/// The costs of lines, summed up by object. A line of costs after `calls=` is what the called function took and is
/// counted there already. Names are given in full once, `(3) name`, and afterwards as `(3)`.
fn parse(profile: &str, library: &str) -> Option<Cost> {
    let mut names: HashMap<&str, bool> = HashMap::new();
    let (mut inside, mut called, mut instructions, mut system_calls) = (false, false, 0, None);
    let mut known = false;
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=").or_else(|| line.strip_prefix("cob=")) {
            let (number, name) = object.split_once(' ').unwrap_or((object, ""));
            if !name.is_empty() {
                names.insert(number, name.ends_with(library));
            }
            if line.starts_with("ob=") {
                inside = *names.get(number)?;
                known |= inside;
            }
        } else if let Some(events) = line.strip_prefix("events: ") {
            // Instructions stand first in the lines of costs.
            if !events.starts_with("Ir sysCount") {
                return None;
            }
        } else if let Some(totals) = line.strip_prefix("summary: ") {
            system_calls = totals.split(' ').nth(1)?.parse().ok();
        } else if line.starts_with("calls=") {
            called = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            if inside && !called {
                instructions += line.split(' ').nth(1)?.parse::<u64>().ok()?;
            }
            called = false;
        }
    }
    Some(Cost { instructions, system_calls: system_calls? }).filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile() {
        let profile = "events: Ir sysCount sysTime\nsummary: 500 7 1\n\nob=(1) /lib/libc.so.6\n\
                       fn=(1) write\n5 10\n+1 20 1\ncob=(2) /x/libuepoll.so\ncfn=(2) hook\n\
                       calls=1 9\n7 300 2\n\nob=(2)\nfn=(2)\n9 40\n+1 2 1 1\ncob=(1)\ncfn=(1)\n\
                       calls=3 5\n* 99\n-4 8\n";
        assert_eq!(
            parse(profile, "libuepoll.so"),
            Some(Cost { instructions: 50, system_calls: 7 })
        );
        assert_eq!(parse(profile, "libother.so"), None);
    }
}
