//! Other programs, never without a time limit: a hang under the library is a result, and must be reported as one.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::processes;

/// Lines of a failed program's messages that are repeated in ours.
const TAIL_LINES: usize = 4;

/// Runs a program to its end and returns what it printed. Fails when it fails, and when it takes longer than `limit`;
/// then it is killed, with everything that it started.
pub fn bounded(mut command: Command, limit: Duration) -> Result<String, String> {
    let name = name_of(&command);
    let described = |error: io::Error| format!("{name}: {error}");
    // Files instead of pipes: nobody has to empty them while the program runs, so no reader disturbs what is measured.
    let mut output = memory_file().map_err(described)?;
    let mut messages = memory_file().map_err(described)?;
    command.stdin(Stdio::null());
    command.stdout(output.try_clone().map_err(described)?);
    command.stderr(messages.try_clone().map_err(described)?);
    let mut child = command.spawn().map_err(described)?;
    let status = wait(&mut child, limit).map_err(described)?;
    let printed = contents(&mut output).map_err(described)?;
    let messages = contents(&mut messages).map_err(described)?;
    match status {
        Some(status) if status.success() => Ok(printed),
        Some(status) => Err(format!("{name} ended with {status}{}", quoted_tail(&messages))),
        None => Err(format!(
            "{name} hung: not finished after {} s{}",
            limit.as_secs(),
            quoted_tail(&messages)
        )),
    }
}

/// Waits for the end of a child; at the limit it kills it with all that it started, and returns None.
pub fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    if ended_within(child, limit)? {
        return child.wait().map(Some);
    }
    kill_tree(child);
    Ok(None)
}

/// Asks a child to end (SIGTERM), and waits. None: it did not within the limit, and was killed.
pub fn terminate(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    kill_process(Pid::from_child(child), Signal::TERM)?;
    wait(child, limit)
}

/// Ends a child and its descendants at once, each by its process id, and reaps the child.
pub fn kill_tree(child: &mut Child) {
    // The child is not reaped yet, so its id cannot have been given to anybody else; nor can its children's while they
    // still name their parent.
    for id in processes::tree(child.id()).into_iter().rev() {
        if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            // An error means that it has ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = child.wait();
}

fn ended_within(child: &Child, limit: Duration) -> io::Result<bool> {
    // A pidfd becomes readable at the end of the process: exact to the microsecond, without a loop of naps.
    let descriptor: OwnedFd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
    Ok(poll(&mut watched, Some(&limit))? > 0)
}

fn memory_file() -> io::Result<File> {
    Ok(File::from(memfd_create("uepoll-bench", MemfdFlags::CLOEXEC)?))
}

/// The child wrote through the same open file, so its end is where we stand: go back first.
fn contents(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The command's last words, for a message of one line.
pub fn quoted_tail(messages: &str) -> String {
    let lines: Vec<&str> = messages.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!(": {}", lines[lines.len().saturating_sub(TAIL_LINES)..].join(" | "))
}

fn name_of(command: &Command) -> String {
    let file = std::path::Path::new(command.get_program());
    let words = file.file_name().into_iter().chain(command.get_args()).take(4);
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_failure_and_hang() {
        let limit = Duration::from_secs(10);
        assert_eq!(bounded(shell("echo out; echo err >&2"), limit).as_deref(), Ok("out\n"));
        let failure = bounded(shell("echo why >&2; exit 3"), limit).unwrap_err();
        assert!(failure.contains("exit status: 3") && failure.contains("why"), "{failure}");

        let begin = Instant::now();
        let hang = bounded(shell("echo asleep >&2; sleep 60 & wait"), Duration::from_millis(200))
            .unwrap_err();
        assert!(hang.contains("hung") && hang.contains("asleep"), "{hang}");
        assert!(begin.elapsed() < Duration::from_secs(10), "the time limit does not hold");
    }
}
