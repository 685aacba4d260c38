//! What both engines told, and whether it is the same.
//!
//! The kernel leaves order open, so events are compared by their data. What is told once (edge-triggered, one-shot) is
//! summed up over all waits since the last comparison; of what is told by every wait the last one counts. Loopback
//! connections, timers and children move by themselves: before two sides count as different, both are asked again for
//! a while.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::mask::Mask;
use crate::sys::Answer;
use crate::twin::{Side, Twin};

/// A registration whose event is told once has this bit in its data.
pub const ONCE: u64 = 1 << 63;

/// How long to wait for the slower side, in milliseconds.
const SETTLE: [u64; 5] = [1, 2, 5, 12, 20];

/// Waits in a row that only repeat themselves end a round trip; this many end it anyhow.
const ROUNDS: usize = 200;

/// Whether being late is a difference.
pub static PROMPTLY: AtomicBool = AtomicBool::new(false);

/// What one side told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    once: BTreeMap<u64, Vec<Mask>>,
    always: BTreeMap<u64, Mask>,
}

/// What kind of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The kernel told something that ours did not.
    Lost,
    /// Ours slept although the kernel's was ready.
    Slept,
    /// Ours told something that the kernel did not.
    Spurious,
    /// Both told of it, with different masks.
    Mask,
    /// The same in the end, but not at once; where that is asked for.
    Late,
    /// epoll_ctl answered differently.
    Control,
    /// poll or select on the instance answered differently.
    Readable,
    /// A child of fork found something else.
    Child,
}

/// A difference.
#[derive(Clone, Debug)]
pub struct Difference {
    pub fault: Fault,
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", format!("{:?}", self.fault).to_uppercase(), self.text)
    }
}

/// Whether ours was as quick as the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Prompt,
    Late,
}

impl Told {
    /// Waits without sleeping until there is nothing new, at most `max` events at a time.
    pub fn collect(&mut self, twin: Twin, side: Side, max: usize) -> Answer<()> {
        for _ in 0..ROUNDS {
            let events = twin.wait(side, max, 0)?;
            let full = events.len() == max;
            let news = self.take(events);
            if !full || !news {
                break;
            }
        }
        Ok(())
    }

    /// Takes the events of one wait. Whether there was anything that was not told yet.
    pub fn take(&mut self, events: Vec<(u64, Mask)>) -> bool {
        let mut news = false;
        for (data, mask) in events {
            if data & ONCE != 0 {
                self.once.entry(data).or_default().push(mask);
                news = true;
            } else {
                news |= self.always.insert(data, mask) != Some(mask);
            }
        }
        news
    }

    fn again(&mut self, twin: Twin, side: Side, max: usize) -> Answer<()> {
        self.always.clear();
        self.collect(twin, side, max)
    }

    fn sorted(mut self) -> Self {
        self.once.values_mut().for_each(|masks| masks.sort_unstable());
        self
    }

    /// The events in a form that passes through a pipe.
    pub fn events(&self) -> Vec<(u64, Mask)> {
        let once =
            self.once.iter().flat_map(|(data, masks)| masks.iter().map(|mask| (*data, *mask)));
        once.chain(self.always.iter().map(|(data, mask)| (*data, *mask))).collect()
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.events();
        if events.is_empty() {
            return f.write_str("nothing");
        }
        let texts: Vec<String> =
            events.iter().map(|(data, mask)| format!("#{}:{mask}", data & !ONCE)).collect();
        f.write_str(&texts.join(" "))
    }
}

/// Waits on both sides until all is told, and compares. `before` is what a wait of ours gave already.
pub fn waits(twin: Twin, max: usize, before: Told) -> Result<Pace, Difference> {
    settle(twin, max, before, Told::default())
}

/// The same, after waits of both sides.
pub fn continued(twin: Twin, ours: Told, kernel: Told) -> Result<Pace, Difference> {
    settle(twin, 256, ours, kernel)
}

fn settle(twin: Twin, max: usize, mut ours: Told, mut kernel: Told) -> Result<Pace, Difference> {
    let failed = |error: i32| Difference {
        fault: Fault::Control,
        text: format!("epoll_wait fails with errno {error}"),
    };
    ours.collect(twin, Side::Ours, max).map_err(failed)?;
    kernel.collect(twin, Side::Kernel, max).map_err(failed)?;
    let mut pace = Pace::Prompt;
    for millis in SETTLE {
        if ours.clone().sorted() == kernel.clone().sorted() {
            return Ok(pace);
        }
        pace = Pace::Late;
        if PROMPTLY.load(Ordering::Relaxed) {
            let text = format!("at once ours tells {ours}, the kernel {kernel}");
            return Err(Difference { fault: Fault::Late, text });
        }
        sleep(Duration::from_millis(millis));
        ours.again(twin, Side::Ours, max).map_err(failed)?;
        kernel.again(twin, Side::Kernel, max).map_err(failed)?;
    }
    match judge(&ours, &kernel) {
        None => Ok(pace),
        Some(difference) => Err(difference),
    }
}

/// How two sides differ, the worst first.
pub fn judge(ours: &Told, kernel: &Told) -> Option<Difference> {
    let (one, other) = (ours.clone().sorted(), kernel.clone().sorted());
    if one == other {
        return None;
    }
    let count = |told: &Told, data: &u64| {
        told.once.get(data).map_or(0, Vec::len) + usize::from(told.always.contains_key(data))
    };
    let all: Vec<u64> =
        [&one, &other].iter().flat_map(|told| told.events()).map(|(data, _)| data).collect();
    let fault = if all.iter().any(|data| count(&one, data) < count(&other, data)) {
        Fault::Lost
    } else if all.iter().any(|data| count(&one, data) > count(&other, data)) {
        Fault::Spurious
    } else {
        Fault::Mask
    };
    Some(Difference { fault, text: format!("ours tells {ours}, the kernel {kernel}") })
}

/// Compares the answers to one question that both were asked, which may need a while to become the same.
pub fn answers<T: PartialEq + fmt::Debug>(
    fault: Fault,
    name: &str,
    mut ask: impl FnMut() -> [Answer<T>; 2],
) -> Result<Pace, Difference> {
    let mut pace = Pace::Prompt;
    for millis in SETTLE {
        let [ours, kernel] = ask();
        if ours == kernel {
            return Ok(pace);
        }
        pace = Pace::Late;
        sleep(Duration::from_millis(millis));
    }
    let [ours, kernel] = ask();
    if ours == kernel {
        return Ok(pace);
    }
    Err(Difference { fault, text: format!("{name}: ours gives {ours:?}, the kernel {kernel:?}") })
}
