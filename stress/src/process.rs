//! What /proc says of this process.

use std::fs;

/// What must be after the load as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// The program's own.
    pub descriptors: usize,
    /// The library's, which stand at the top of the range.
    pub hidden: usize,
    pub threads: usize,
    /// Threads of the library.
    pub watchers: usize,
    /// Resident memory, in kB.
    pub memory: u64,
}

/// Numbers from `top` on are the library's, if it is there.
pub fn footprint(top: u64) -> Footprint {
    let numbers: Vec<u64> =
        entries("/proc/self/fd").iter().flat_map(|number| number.parse()).collect();
    let hidden = numbers.iter().filter(|&&number| number >= top && is_preloaded()).count();
    Footprint {
        // Without the one that reads the directory.
        descriptors: numbers.len().saturating_sub(hidden + 1),
        hidden,
        threads: threads(),
        watchers: watchers().len(),
        memory: resident_memory(),
    }
}

fn entries(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// How many threads there are, the library's included.
pub fn threads() -> usize {
    entries("/proc/self/task").len()
}

/// The ids of the library's threads.
pub fn watchers() -> Vec<i32> {
    threads_named("uepoll")
}

pub fn threads_named(name: &str) -> Vec<i32> {
    let has_name = |id: &String| {
        fs::read_to_string(format!("/proc/self/task/{id}/comm"))
            .is_ok_and(|found| found.trim_end() == name)
    };
    entries("/proc/self/task").iter().filter(|id| has_name(id)).flat_map(|id| id.parse()).collect()
}

fn resident_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Whether this process holds the library.
pub fn is_preloaded() -> bool {
    fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains("libuepoll"))
}

/// Whether an epoll descriptor is the kernel's.
pub fn is_of_kernel(epoll: i32) -> bool {
    fs::read_link(format!("/proc/self/fd/{epoll}"))
        .is_ok_and(|target| target.to_string_lossy().contains("eventpoll"))
}
