//! What /proc tells of a process that we started and of its descendants.

use std::fs;
use std::time::{Duration, Instant};

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// A process and all its descendants, parents first.
pub fn tree(root: u32) -> Vec<u32> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = Stat::read(process) {
            parents.push((stat.parent, process));
        }
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(of, _)| *of == parent).map(|(_, process)| *process));
        next += 1;
    }
    family
}

/// Processor time (user and system, all threads, also those that have ended) of a process and its descendants that live
/// now. From their clocks: /proc counts in ticks of 10 ms, which are a tenth of what a paced load takes in a second.
pub fn processor_time(root: u32) -> Duration {
    tree(root).into_iter().filter_map(of_process).sum()
}

fn of_process(process: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(process).ok()?)).ok()?;
    clock.now().ok().map(Duration::from)
}

/// What the rest of the machine does while we measure: the first suspect when a spread is wide.
pub struct Neighbours {
    begin: Instant,
    machine: u64,
    ours: u64,
}

impl Neighbours {
    pub fn watch() -> Neighbours {
        Neighbours { begin: Instant::now(), machine: machine_ticks(), ours: our_ticks() }
    }

    /// The share of the machine's processor time since `watch` that neither this program took nor what it started and
    /// has waited for.
    pub fn share(&self) -> f64 {
        let machine = machine_ticks().saturating_sub(self.machine);
        let others = machine.saturating_sub(our_ticks().saturating_sub(self.ours));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let there_was = self.begin.elapsed().as_secs_f64()
            * rustix::param::clock_ticks_per_second() as f64
            * processors as f64;
        (others as f64 / there_was).min(1.0)
    }
}

/// proc_stat(5): user, nice, system, and what the hypervisor gave to others (steal, the eighth).
fn machine_ticks() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> =
        first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    [0, 1, 2, 7].iter().filter_map(|field| fields.get(*field)).sum()
}

/// Our own time and that of all children that have ended.
fn our_ticks() -> u64 {
    Stat::read(std::process::id()).map_or(0, |stat| stat.ticks + stat.children)
}

/// How a process comes to its epoll.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EpollUse {
    /// It holds a descriptor of the kernel's epoll.
    pub kernel: bool,
    /// The library is mapped.
    pub library: bool,
}

/// The same for a process and its descendants together.
pub fn epoll_use(root: u32, library: &str) -> EpollUse {
    let mut found = EpollUse::default();
    for process in tree(root) {
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
        found.library |= maps.contains(library);
        for entry in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            found.kernel |= fs::read_link(entry.path())
                .is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]");
        }
    }
    found
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
    /// Of children that were waited for, and theirs.
    children: u64,
}

impl Stat {
    fn read(process: u32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    /// proc_pid_stat(5): the second field is the name in parentheses and may hold spaces and parentheses itself, so
    /// count from the last one. ppid is field 4, utime and stime are 14 and 15,
    /// cutime and cstime 16 and 17.
    fn parse(line: &str) -> Option<Stat> {
        let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            parent: u32::try_from(number(4)?).ok()?,
            ticks: number(14)? + number(15)?,
            children: number(16)? + number(17)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 0 1 0 0 0 250 12 9 8 20 0 1 0 5 0 0";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 3, ticks: 262, children: 17 }));
        assert_eq!(Stat::parse("7 (short) S 3"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn the_clock_of_a_process() {
        let before = processor_time(std::process::id());
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(20) {}
        assert!(processor_time(std::process::id()) > before);
    }

    #[test]
    fn we_are_in_our_own_tree() {
        assert_eq!(tree(std::process::id()).first(), Some(&std::process::id()));
    }
}
