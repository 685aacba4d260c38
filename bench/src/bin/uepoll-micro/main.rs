//! `uepoll-micro CASE`: one small measurement in one process, printed as one number.
//!
//! The number is nanoseconds an operation (or what the case says): all the time of the measurement divided by all its
//! operations, background work of the library included. `uepoll-bench` runs it natively and preloaded. With
//! `count OPERATION N` it does one operation exactly N times and prints nothing: `uepoll-budget` counts instructions.

mod activity;
mod count;
mod ctl;
mod io_calls;
mod memory;
mod sys;
mod threads;
mod timing;
mod waiting;
mod watched;

use std::fs;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use activity::Activity;
use sys::Epoll;
use timing::Timing;
use watched::Kind;

struct Options {
    case: String,
    timing: Timing,
    /// `none`, or the file name of the library that has to answer our epoll calls.
    library: Option<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let printed = match arguments.as_slice() {
        [first, operation, times] if first == "count" => counted(operation, times).map(|()| None),
        _ => parse(arguments.into_iter()).and_then(|options| timed(&options).map(Some)),
    };
    match printed {
        Ok(number) => {
            if let Some(number) = number {
                println!("{number:.2}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("uepoll-micro: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> io::Error {
    io::Error::other(
        "usage: uepoll-micro CASE [--warm-ms N] [--measure-ms N] [--library NAME|none]
       uepoll-micro count OPERATION N",
    )
}

fn counted(operation: &str, times: &str) -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    count::run(operation, times.parse().map_err(|_| usage())?)
}

fn timed(options: &Options) -> io::Result<f64> {
    sys::raise_descriptor_limit()?;
    if let Some(library) = &options.library {
        check_epoll(library)?;
    }
    run(&options.case, options.timing)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> io::Result<Options> {
    let mut options = Options {
        case: arguments.next().ok_or_else(usage)?,
        timing: Timing { warm: Duration::from_millis(300), measure: Duration::from_millis(300) },
        library: None,
    };
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(usage)?;
        let milliseconds = || value.parse().map(Duration::from_millis).map_err(|_| usage());
        match option.as_str() {
            "--warm-ms" => options.timing.warm = milliseconds()?,
            "--measure-ms" => options.timing.measure = milliseconds()?,
            "--library" => options.library = Some(value),
            _ => return Err(usage()),
        }
    }
    Ok(options)
}

/// Fails when it is not the expected side that answers: the kernel for `none`, else the library of that name.
fn check_epoll(library: &str) -> io::Result<()> {
    let epoll = Epoll::new()?;
    let link = fs::read_link(format!("/proc/self/fd/{}", epoll.number()))?;
    let of_kernel = link.as_os_str() == "anon_inode:[eventpoll]";
    let mapped = fs::read_to_string("/proc/self/maps")?.contains("libuepoll");
    let expected = library != "none";
    if of_kernel == expected || mapped != expected {
        let message = format!(
            "expected library: {library}; kernel's epoll: {of_kernel}, library mapped: {mapped}"
        );
        return Err(io::Error::other(message));
    }
    Ok(())
}

fn run(case: &str, timing: Timing) -> io::Result<f64> {
    let words: Vec<&str> = case.split('-').collect();
    let unknown = || io::Error::other(format!("there is no case {case:?}"));
    let size = |word: &str| word.parse::<usize>().map_err(|_| unknown());
    match words.as_slice() {
        ["ctl", "add"] => ctl::add(timing),
        ["ctl", "mod"] => ctl::modify(timing),
        ["ctl", "del"] => ctl::delete(timing),
        ["wait", "empty", count] => waiting::among(timing, Kind::Eventfd, size(count)?, 0, 0),
        ["wait0", count] => waiting::among(timing, Kind::Eventfd, size(count)?, 1, 0),
        ["wait", count] => waiting::among(timing, Kind::Eventfd, size(count)?, 1, -1),
        ["wait", count, "sockets"] => waiting::among(timing, Kind::SocketPair, size(count)?, 1, -1),
        ["parked", large, "over", small] => {
            waiting::parked_over(timing, size(large)?, size(small)?)
        }
        [how @ ("active" | "moving"), active, "of", count, rest @ ..] => {
            let edge = match rest {
                [] => false,
                ["edge"] => true,
                _ => return Err(unknown()),
            };
            let moving = *how == "moving";
            activity::among(timing, Activity { active: size(active)?, moving, edge }, size(count)?)
        }
        ["ping", "pong"] => threads::ping_pong(timing),
        ["oneshot", "2", "threads"] => threads::oneshot_two_threads(timing),
        ["workers", "oneshot", count] => threads::workers(timing, size(count)?, true),
        ["workers", "edge", count] => threads::workers(timing, size(count)?, false),
        ["io", "null", "unwatched"] => io_calls::null(timing),
        ["io", "eventfd", "unwatched"] => io_calls::eventfd(timing, false),
        ["io", "eventfd", "watched"] => io_calls::eventfd(timing, true),
        ["dup", "close", "unwatched"] => io_calls::dup_close(timing),
        ["memory", "fd", count] => memory::a_descriptor(size(count)?),
        ["memory", "thread", count] => memory::a_watcher(timing, size(count)?),
        _ => Err(unknown()),
    }
}
