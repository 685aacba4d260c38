//! Single calls, measured inside a process by `uepoll-micro`; here they are named, started and judged.

use std::time::Duration;

use crate::pairs::{Better, Case, Metric, Wanted};
use crate::run;
use crate::servers::OneProcessor;
use crate::setup::{LIBRARY, Setup, Side};

const LIMIT: Duration = Duration::from_secs(30);
/// Large and small: a busy server, and what a process may have open here.
const SIZES: [usize; 2] = [1000, 9000];

struct Micro {
    /// Also the argument of `uepoll-micro`.
    name: String,
    about: String,
    metric: Metric,
    /// The program prints nanoseconds, and the case is about how many there are in a second.
    inverse: bool,
    in_quick: bool,
}

/// Prepared and then named: `Micro` without name and words.
#[derive(Clone, Copy)]
struct What {
    metric: Metric,
    inverse: bool,
    in_quick: bool,
}

impl What {
    const fn of(name: &'static str, better: Better) -> What {
        let metric = Metric { name, better, has_ratio: true, wanted: None };
        What { metric, inverse: false, in_quick: false }
    }

    /// The kernel keeps its items where nobody is charged for them.
    fn without_ratio(mut self) -> What {
        self.metric.has_ratio = false;
        self
    }

    fn wanted(mut self, wanted: Wanted) -> What {
        self.metric.wanted = Some(wanted);
        self
    }

    fn also_quick(mut self, also: bool) -> What {
        self.in_quick = also;
        self
    }
}

const NANOSECONDS: What = What::of("ns/op", Better::Lower);
const MESSAGES: What = What::of("messages/s", Better::Higher);
const EVENTS: What = What { inverse: true, ..What::of("events/s", Better::Higher) };

pub fn cases() -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Micro> = Vec::new();
    let mut case = |name: &str, what: What, about: &str| {
        let What { metric, inverse, in_quick } = what;
        cases.push(Micro { name: name.into(), about: about.into(), metric, inverse, in_quick });
    };
    let five_times_faster = NANOSECONDS.wanted(Wanted::RatioAtMost(0.2)).also_quick(true);
    for operation in ["add", "mod", "del"] {
        let name = format!("ctl-{operation}");
        let about =
            format!("one {}, in turn for 1000 socket pairs", operation.to_ascii_uppercase());
        case(&name, five_times_faster, &about);
    }
    for size in [1, 16, 64, 1000, 9000] {
        let about = format!("epoll_wait, one ready (level, undrained) of {size} eventfds");
        let quick = NANOSECONDS.also_quick(size == 16 || size == 9000);
        case(&format!("wait-{size}"), quick, &about);
    }
    case(
        "wait-16-sockets",
        NANOSECONDS,
        "epoll_wait, one ready (level, undrained) of 16 socket pairs",
    );
    case(
        "wait-9000-sockets",
        NANOSECONDS,
        "epoll_wait, one ready (level, undrained) of 9000 socket pairs",
    );
    case("wait0-16", NANOSECONDS, "epoll_wait, timeout 0, one ready of 16 eventfds");
    case("wait-empty-16", NANOSECONDS, "epoll_wait, timeout 0, none ready of 16 eventfds");
    case(
        "parked-9000-over-16",
        What::of("times", Better::Lower)
            .without_ratio()
            .wanted(Wanted::AtMost(3.0))
            .also_quick(true),
        "epoll_wait with one ready of 9000 socket pairs, in times of one of 16",
    );
    case(
        "ping-pong",
        NANOSECONDS.wanted(Wanted::RatioAtMost(1.10)).also_quick(true),
        "there and back between two threads, two pipes, two epolls, one processor",
    );
    for (how, said) in [("active", "always the same"), ("moving", "at random")] {
        for size in SIZES {
            for active in [1, 16, 64] {
                for (suffix, trigger) in [("", "level"), ("-edge", "edge")] {
                    let hardest = how == "moving" && (active, size) == (1, 9000);
                    let what = if hardest {
                        EVENTS.wanted(Wanted::ratio_at_least(0.15)).also_quick(suffix.is_empty())
                    } else {
                        EVENTS
                    };
                    let about = format!(
                        "{active} active of {size} socket pairs, {said}, {trigger}: write, wait, read"
                    );
                    case(&format!("{how}-{active}-of-{size}{suffix}"), what, &about);
                }
            }
        }
    }
    case(
        "oneshot-2-threads",
        NANOSECONDS.also_quick(true),
        "two threads wait and re-arm with MOD, 16 ready one-shots",
    );
    for (trigger, said) in [("oneshot", "one-shot"), ("edge", "edge-triggered")] {
        for threads in [2, 4] {
            let about = format!(
                "{threads} threads on one instance pass 16 messages around 64 pairs, {said}"
            );
            let what = MESSAGES.wanted(Wanted::ratio_at_least(0.7)).also_quick(threads == 2);
            case(&format!("workers-{trigger}-{threads}"), what, &about);
        }
    }
    case("io-null-unwatched", NANOSECONDS, "write to /dev/null, unwatched");
    case("io-eventfd-unwatched", NANOSECONDS, "write to and read from an eventfd, unwatched");
    case(
        "io-eventfd-watched",
        NANOSECONDS,
        "write to and read from an eventfd in an interest list",
    );
    case("dup-close-unwatched", NANOSECONDS, "dup and close of an unwatched eventfd");
    case(
        "memory-fd-9000",
        What::of("bytes/fd", Better::Lower)
            .without_ratio()
            .wanted(Wanted::AtMost(200.0))
            .also_quick(true),
        "resident memory of 9000 eventfds, opened, registered and waited for once",
    );
    case(
        "memory-thread-9000",
        What::of("kB/thread", Better::Lower)
            .without_ratio()
            .wanted(Wanted::AtMost(32.0))
            .also_quick(true),
        "resident memory that parking 9000 eventfds adds, for each watcher thread",
    );
    cases.into_iter().map(|case| Box::new(case) as Box<dyn Case>).collect()
}

impl Case for Micro {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> String {
        self.about.clone()
    }

    fn in_quick(&self) -> bool {
        self.in_quick
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![self.metric]
    }

    fn run(&self, setup: &Setup, side: Side) -> Result<Vec<f64>, String> {
        // Two threads that take turns: the same lottery of the scheduler as with a single connection.
        let _pinned = if self.name == "ping-pong" { Some(OneProcessor::pin()?) } else { None };
        let mut command = setup.command(side, setup.micro());
        command.arg(&self.name);
        let (warm, measure) = setup.either((60, 60), (100, 120));
        command.args(["--warm-ms", &warm.to_string(), "--measure-ms", &measure.to_string()]);
        // The program looks at its own descriptors and mappings, and fails when the wrong epoll answers.
        command.args(["--library", if setup.preloads(side) { LIBRARY } else { "none" }]);
        let printed = run::bounded(command, LIMIT)?;
        let number: f64 =
            printed.trim().parse().map_err(|_| format!("uepoll-micro printed {printed:?}"))?;
        Ok(vec![if self.inverse { 1e9 / number } else { number }])
    }
}
