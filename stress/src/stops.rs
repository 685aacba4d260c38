//! A process that exchanges messages, stopped and continued by another one all the time.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::faults::Faults;
use crate::messages::{self, Plan};
use crate::sys::{self, Answer, End};

/// The process has this long beyond its seconds, of which it is stopped for a part.
const GRACE: Duration = Duration::from_secs(300);

/// `None`: the process has said all that is to be said.
pub fn run(plan: Plan, faults: &Faults) -> Answer<String> {
    let child = sys::fork(|| {
        let _ = sys::die_with_parent();
        let faults = Faults::default();
        match messages::run(plan, &faults) {
            Ok(line) => println!("  stopped process: {line}"),
            Err(error) => faults.add(format!("setting up: error {error}")),
        }
        faults.print();
        u8::from(!faults.is_empty())
    })?;
    let mut dice = Rng::with_seed(plan.seed);
    let start = Instant::now();
    let mut stops = 0;
    let end = loop {
        if let Some(end) = sys::has_ended(child)? {
            break end;
        }
        if start.elapsed() > Duration::from_secs(plan.seconds) + GRACE {
            sys::kill(child, libc::SIGKILL)?;
            faults.add("the process that is stopped and continued hangs".into());
            break sys::wait_for_child(child)?;
        }
        sys::kill(child, libc::SIGSTOP)?;
        sys::sleep(Duration::from_micros(dice.u64(..10_000)));
        sys::kill(child, libc::SIGCONT)?;
        sys::sleep(Duration::from_micros(dice.u64(..20_000)));
        stops += 1;
    };
    if end != End::Exit(0) {
        faults.add(format!("the process that was stopped {stops} times ended by {end:?}"));
    }
    Ok(format!("{stops} times stopped and continued"))
}
