//! `uepoll-stress`: much at once, for long, on whichever epoll libc's functions reach. An ordinary program: natively it
//! runs on the kernel's epoll, by `uepoll run -- uepoll-stress` on the library's, and whatever it checks must hold on both.
//!
//! `messages` is read first; `forks` and `stops` are the same with children and stops.

mod channel;
mod children;
mod clock;
mod connections;
mod faults;
mod messages;
mod process;
mod stops;
mod sys;
mod watchdog;
mod watcher;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use faults::Faults;

/// Load on epoll: messages, connections, forks, stops, and threads that end.
#[derive(Parser)]
#[command(name = "uepoll-stress")]
struct Arguments {
    /// Whose epoll this must be: it fails on another one.
    #[arg(long)]
    on: Option<Side>,
    #[command(subcommand)]
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Kernel,
    Library,
}

#[derive(Args)]
struct Common {
    /// For how long, about.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Random numbers begin with it. Threads make each run another one all the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Subcommand)]
enum Part {
    /// Numbered messages over eight instances, some in others, while items are changed and signals come
    Messages {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 64)]
        threads: usize,
        #[arg(long, default_value_t = 96)]
        channels: usize,
        /// Signals a second
        #[arg(long, default_value_t = 1000)]
        signals: u32,
    },
    /// Connections that come and go; descriptors, threads and memory are afterwards as before
    Connections {
        #[command(flatten)]
        common: Common,
        /// Connections a minute, beside the idle ones
        #[arg(long, default_value_t = 10_000)]
        rate: u64,
        /// Idle connections that come and go in each round
        #[arg(long, default_value_t = 2000)]
        idle: usize,
        /// Seconds of a round
        #[arg(long, default_value_t = 8)]
        round: u64,
    },
    /// Messages, while four threads fork without exec all the time
    Forks {
        #[command(flatten)]
        common: Common,
    },
    /// Messages in a process that is stopped and continued all the time
    Stops {
        #[command(flatten)]
        common: Common,
    },
    /// The library's threads: one is killed, and none can be had
    Watcher,
    /// Clocks that jump
    Clock,
}

fn main() -> ExitCode {
    let Arguments { on, part } = Arguments::parse();
    let faults = Faults::default();
    let (side, name) = match sys::epoll() {
        Ok(epoll) => {
            let of_kernel = process::is_of_kernel(epoll);
            let _ = sys::close(epoll);
            if of_kernel { (Side::Kernel, "kernel") } else { (Side::Library, "library") }
        }
        Err(error) => {
            eprintln!("uepoll-stress: epoll_create1: error {error}");
            return ExitCode::FAILURE;
        }
    };
    if on.is_some_and(|on| on != side) {
        eprintln!("uepoll-stress: this is the epoll of the {name}");
        return ExitCode::FAILURE;
    }
    let plan = |common: Common| messages::Plan {
        seed: common.seed,
        seconds: common.seconds,
        threads: 64,
        channels: 96,
        signals: 1000,
        forkers: 0,
    };
    let (title, done) = match part {
        Part::Messages { common, threads, channels, signals } => {
            let plan = messages::Plan { threads, channels, signals, ..plan(common) };
            ("messages", messages::run(plan, &faults))
        }
        Part::Connections { common: Common { seconds, seed }, rate, idle, round } => {
            let plan = connections::Plan { seed, seconds, rate, idle, round };
            ("connections", connections::run(plan, &faults))
        }
        Part::Forks { common } => {
            let plan = messages::Plan { threads: 24, forkers: 4, signals: 100, ..plan(common) };
            ("forks", messages::run(plan, &faults))
        }
        Part::Stops { common } => ("stops", stops::run(plan(common), &faults)),
        Part::Watcher => ("watcher", watcher::run(&faults)),
        Part::Clock => ("clock", clock::run(&faults)),
    };
    match done {
        Ok(line) => println!("{title}, {name}: {line}"),
        Err(error) => faults.add(format!("setting up: error {error}")),
    }
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("uepoll-stress: {title}, {name}: this did not hold:");
    faults.print();
    ExitCode::FAILURE
}
