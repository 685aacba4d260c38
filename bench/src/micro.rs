//! Single calls, measured inside a process by `uepoll-micro`; here they are named, started and judged.

use std::time::Duration;

use crate::pairs::{Better, Case, Metric, Wanted};
use crate::run;
use crate::servers::OneProcessor;
use crate::setup::{LIBRARY, Setup, Side};

const LIMIT: Duration = Duration::from_secs(30);
/// "One ready among 16" is to be answered within this many nanoseconds.
const WAIT_16: Wanted = Wanted::AtMost(2500.0);

struct Micro {
    /// Also the argument of `uepoll-micro`.
    name: String,
    about: String,
    metric: Metric,
    in_quick: bool,
}

const NANOSECONDS: Metric =
    Metric { name: "ns/op", better: Better::Lower, has_ratio: true, wanted: None };
/// The kernel keeps its items where VmRSS does not show them.
const BYTES: Metric =
    Metric { name: "bytes/fd", better: Better::Lower, has_ratio: false, wanted: None };

pub fn cases() -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    let mut case = |name: &str, about: &str, metric: Metric, in_quick: bool| {
        cases.push(Box::new(Micro { name: name.into(), about: about.into(), metric, in_quick }));
    };
    case("ctl-add-del", "one ADD and one DEL of an eventfd", NANOSECONDS, true);
    case("ctl-mod", "one MOD of an eventfd", NANOSECONDS, true);
    for (timeout, said) in [("wait0", "timeout 0"), ("wait", "timeout -1")] {
        for (suffix, kind) in [("", "eventfds"), ("-sockets", "socket pairs")] {
            for size in [1, 16, 64, 1000, 9000] {
                let wanted = (size == 16 && suffix.is_empty()).then_some(WAIT_16);
                let in_quick =
                    if suffix.is_empty() { size != 64 } else { timeout == "wait" && size == 9000 };
                let about =
                    format!("epoll_wait, {said}, one ready (level, undrained) of {size} {kind}");
                case(
                    &format!("{timeout}-{size}{suffix}"),
                    &about,
                    Metric { wanted, ..NANOSECONDS },
                    in_quick,
                );
            }
        }
    }
    case("wait-empty-16", "epoll_wait, timeout 0, none ready of 16 eventfds", NANOSECONDS, false);
    case(
        "ping-pong",
        "there and back between two threads, two pipes, two epolls, one processor",
        NANOSECONDS,
        true,
    );
    for (active, size) in [(1, 1000), (16, 1000), (1, 9000), (64, 9000)] {
        let about =
            format!("an event of {active} active socket pairs among {size}: write, wait, read");
        case(&format!("active-{active}-of-{size}"), &about, NANOSECONDS, active > 1);
    }
    case(
        "oneshot-2-threads",
        "two threads wait and re-arm with MOD, 16 ready one-shots",
        NANOSECONDS,
        true,
    );
    case("io-null-unwatched", "write to /dev/null, unwatched", NANOSECONDS, true);
    case("io-eventfd-unwatched", "write to and read from an eventfd, unwatched", NANOSECONDS, true);
    case(
        "io-eventfd-watched",
        "write to and read from an eventfd in an interest list",
        NANOSECONDS,
        true,
    );
    case("dup-close-unwatched", "dup and close of an unwatched eventfd", NANOSECONDS, true);
    case("memory-9000", "growth of VmRSS over 9000 ADDs and some waits", BYTES, true);
    cases
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
        let (warm, measure) = setup.either((60, 50), (300, 300));
        command.args(["--warm-ms", &warm.to_string(), "--measure-ms", &measure.to_string()]);
        // The program looks at its own descriptors and mappings, and fails when the wrong epoll answers.
        command.args(["--library", if setup.preloads(side) { LIBRARY } else { "none" }]);
        let printed = run::bounded(command, LIMIT)?;
        let number =
            printed.trim().parse().map_err(|_| format!("uepoll-micro printed {printed:?}"))?;
        Ok(vec![number])
    }
}
