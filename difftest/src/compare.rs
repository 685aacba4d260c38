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

/// Whether the order of events is compared: right where all that makes files ready is done by one thread.
pub static ORDERLY: AtomicBool = AtomicBool::new(false);

/// What one side told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    once: BTreeMap<u64, Vec<Mask>>,
    always: BTreeMap<u64, Mask>,
    /// Items in the order in which they were told first. With few events at a time that is the order of the whole ready
    /// list: what was told goes to its end.
    order: Vec<u64>,
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
    /// Both told the same, in another order; where that is compared.
    Order,
    /// Ours told some ready items more often than others, the kernel told all the same.
    Unfair,
    /// An echo (`echo.rs`), where those are shown.
    Echo,
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

/// What became of waits on both sides.
pub struct Compared {
    pub ours: Told,
    pub kernel: Told,
    /// Ours or the kernel's needed time.
    pub late: bool,
    pub difference: Option<Difference>,
}

impl Compared {
    pub fn result(self) -> Result<(), Difference> {
        self.difference.map_or(Ok(()), Err)
    }
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
            if !self.order.contains(&data) {
                self.order.push(data);
            }
            if data & ONCE != 0 {
                self.once.entry(data).or_default().push(mask);
                news = true;
            } else {
                news |= self.always.insert(data, mask) != Some(mask);
            }
        }
        news
    }

    /// The same once more: of what is told by every wait the last one counts.
    pub fn again(&mut self, twin: Twin, side: Side, max: usize) -> Answer<()> {
        self.always.clear();
        self.collect(twin, side, max)
    }

    /// What is told once and was told here alone, the last of each item.
    fn once_beyond(&self, other: &Self) -> Self {
        let alone = self.once.iter().filter(|(data, _)| !other.once.contains_key(data));
        let once = alone.map(|(data, masks)| (*data, masks.last().copied().into_iter().collect()));
        Self { once: once.collect(), ..Self::default() }
    }

    fn sorted(mut self) -> Self {
        self.once.values_mut().for_each(|masks| masks.sort_unstable());
        self.order.clear();
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
pub fn waits(twin: Twin, max: usize, before: Told) -> Compared {
    settle(twin, max, before, Told::default())
}

/// The same, after waits of both sides.
pub fn continued(twin: Twin, ours: Told, kernel: Told) -> Compared {
    settle(twin, 256, ours, kernel)
}

fn settle(twin: Twin, max: usize, ours: Told, kernel: Told) -> Compared {
    let mut compared = Compared { ours, kernel, late: false, difference: None };
    if let Err(difference) = compared.settle(twin, max) {
        compared.difference = Some(difference);
    }
    compared
}

impl Compared {
    fn settle(&mut self, twin: Twin, max: usize) -> Result<(), Difference> {
        let failed = |error: i32| Difference {
            fault: Fault::Control,
            text: format!("epoll_wait fails with errno {error}"),
        };
        self.ours.collect(twin, Side::Ours, max).map_err(failed)?;
        self.kernel.collect(twin, Side::Kernel, max).map_err(failed)?;
        for millis in SETTLE {
            if self.ours.clone().sorted() == self.kernel.clone().sorted() {
                return self.in_order();
            }
            self.late = true;
            if PROMPTLY.load(Ordering::Relaxed) {
                let text = format!("at once ours tells {}, the kernel {}", self.ours, self.kernel);
                return Err(Difference { fault: Fault::Late, text });
            }
            sleep(Duration::from_millis(millis));
            self.ours.again(twin, Side::Ours, max).map_err(failed)?;
            self.kernel.again(twin, Side::Kernel, max).map_err(failed)?;
        }
        judge(&self.ours, &self.kernel).map_or(Ok(()), Err)
    }

    /// What came late came in no order.
    fn in_order(&self) -> Result<(), Difference> {
        let (ours, kernel) = (&self.ours.order, &self.kernel.order);
        if self.late || ours == kernel || !ORDERLY.load(Ordering::Relaxed) {
            return Ok(());
        }
        let text = |order: &[u64]| {
            let names: Vec<String> =
                order.iter().map(|data| format!("#{}", data & !ONCE)).collect();
            names.join(" ")
        };
        let text = format!("in order ours tells {}, the kernel {}", text(ours), text(kernel));
        Err(Difference { fault: Fault::Order, text })
    }
}

/// Asks both sides many times for less than is ready: each item is to have its turn. An edge that comes meanwhile, as of a
/// connection whose data is acknowledged, is told once, and only by one side: that is no turn. Gives what only ours and what
/// only the kernel's has told so; the other side will.
pub fn turns(twin: Twin, max: usize) -> Result<[Told; 2], Difference> {
    let mut told = [Told::default(), Told::default()];
    let mut count = |side| -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..ROUNDS / 4 {
            let events = twin.wait(side, max, 0).unwrap_or_default();
            for (data, _) in &events {
                *counts.entry(*data).or_default() += 1;
            }
            told[side as usize].take(events);
        }
        counts.retain(|_, times| *times > 1);
        counts
    };
    let is_fair = |counts: &BTreeMap<u64, usize>| {
        let (least, most) = (counts.values().min(), counts.values().max());
        least.zip(most).is_none_or(|(least, most)| most - least <= 1)
    };
    let (ours, kernel) = (count(Side::Ours), count(Side::Kernel));
    let same_items = ours.keys().eq(kernel.keys());
    if is_fair(&ours) && same_items || !is_fair(&kernel) {
        let [ours, kernel] = told;
        return Ok([ours.once_beyond(&kernel), kernel.once_beyond(&ours)]);
    }
    let text = format!("{max} at a time ours tells {ours:?} (times), the kernel {kernel:?}");
    Err(Difference { fault: Fault::Unfair, text })
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

/// What the other side told beyond what one told, if that is all they differ by.
pub fn beyond(one: &Told, other: &Told) -> Option<Vec<(u64, Mask)>> {
    let mut extra = other.events();
    for event in one.events() {
        let place = extra.iter().position(|other| *other == event)?;
        extra.swap_remove(place);
    }
    (!extra.is_empty()).then_some(extra)
}

/// Compares the answers to one question that both were asked, which may need a while to become the same.
pub fn answers<T: PartialEq + fmt::Debug>(
    fault: Fault,
    name: &str,
    mut ask: impl FnMut() -> [Answer<T>; 2],
) -> Result<(), Difference> {
    for millis in SETTLE {
        let [ours, kernel] = ask();
        if ours == kernel {
            return Ok(());
        }
        sleep(Duration::from_millis(millis));
    }
    let [ours, kernel] = ask();
    if ours == kernel {
        return Ok(());
    }
    Err(Difference { fault, text: format!("{name}: ours gives {ours:?}, the kernel {kernel:?}") })
}
