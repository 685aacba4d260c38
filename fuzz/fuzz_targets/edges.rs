//! The pure core of edges (src/edge.rs, src/sign.rs) against what its comments promise, without a system call.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use uepoll::Events;
use uepoll::edge::{Backlog, Trigger};
use uepoll::fdtable::{FdTable, Signs};
use uepoll::files::Kind;
use uepoll::sys;

#[derive(arbitrary::Arbitrary, Debug)]
enum Step {
    /// A look, and a report if that is news.
    Look(u16),
    /// Signs of the program's calls.
    Signs(u8),
    /// The file's queue grew.
    Grew,
    /// The program shut the reading side.
    Shut,
    /// EPOLL_CTL_MOD.
    Mod(u32),
}

#[derive(arbitrary::Arbitrary, Debug)]
enum Flow {
    Comes(u16),
    Read(u16),
    ReadUnseen(u16),
    Asked,
}

#[derive(arbitrary::Arbitrary, Debug)]
struct Input {
    kind: u8,
    mask: u32,
    steps: Vec<Step>,
    flows: Vec<Flow>,
    signs: Vec<(u8, bool)>,
}

fuzz_target!(|input: Input| {
    trigger(&input);
    backlog(&input.flows);
    signs(&input.signs);
});

fn trigger(input: &Input) {
    let kind = Kind::from_nibble(input.kind & 0xf);
    let mut asked = Events::from_bits_retain(input.mask);
    let mut trigger = Trigger::new(asked, kind);
    // What was not seen low since it was last reported, or shown to be new.
    let mut stale = Events::empty();
    let mut fired = false;
    for step in &input.steps {
        let wanted = asked.intersection(Events::REPORTS) | Events::ALWAYS;
        match *step {
            Step::Look(levels) => {
                let levels = Events::from_bits_retain(levels.into()).intersection(Events::REPORTS);
                let news = trigger.news(levels);
                if let Some(news) = news {
                    assert_eq!(news, levels & wanted, "all that is high and asked for, and nothing else");
                    assert!(!news.is_empty() && !fired);
                } else {
                    let fresh = levels & (wanted - stale);
                    assert!(fired || fresh.is_empty(), "{fresh:?} rose, and was not reported");
                }
                if news.is_some() {
                    trigger.reported(levels);
                    fired |= asked.contains(Events::ONESHOT);
                } else {
                    trigger.noticed(levels);
                }
                let edge = asked.contains(Events::ET);
                stale = if edge { levels } else { Events::empty() };
                let again = trigger.news(levels);
                let level = !edge && !fired && levels.intersects(wanted);
                assert_eq!(again.is_some(), level, "once an edge, and a level for ever");
            }
            Step::Signs(signs) => {
                let signs = Signs::from_bits_truncate(signs);
                trigger.rearm(signs, kind);
                if signs.contains(Signs::WOKEN) {
                    stale = Events::empty();
                }
                if signs.contains(Signs::FILLED) {
                    stale -= Events::WRITE;
                }
            }
            Step::Grew => trigger.rearm_input(),
            Step::Shut => trigger.shut(),
            Step::Mod(mask) => {
                asked = Events::from_bits_retain(mask);
                trigger = Trigger::new(asked, kind);
                (stale, fired) = (Events::empty(), false);
            }
        }
        assert_eq!(trigger.is_fired(), fired);
        if let Some(watch) = trigger.watch() {
            assert!(trigger.whole().contains(watch), "a hit can be asked for all of the report");
        }
        let closed = Backlog::Ended { state: sys::TCP_CLOSE, arrivals: 0 };
        let (before, after) = (trigger.doubt(kind, None), trigger.doubt(kind, Some(closed)));
        assert!(after.is_none() || after == before, "what is over is asked about no more than before");
    }
}

/// A file's queue, and what the library counts of it. Where every read is seen, growth is never missed nor made up.
fn backlog(flows: &[Flow]) {
    let (mut queued, mut consumed) = (0u32, 0u32);
    let mut known = Backlog::Queue { queued, consumed };
    let (mut came, mut unseen) = (false, false);
    for flow in flows {
        match *flow {
            Flow::Comes(bytes) => {
                queued = queued.saturating_add(bytes.into());
                came |= bytes > 0;
            }
            Flow::Read(bytes) => {
                let took = queued.min(bytes.into());
                queued -= took;
                consumed = consumed.wrapping_add(took);
            }
            Flow::ReadUnseen(bytes) => {
                let took = queued.min(bytes.into());
                queued -= took;
                unseen |= took > 0;
            }
            Flow::Asked => {
                let now = Backlog::Queue { queued, consumed };
                let grew = known.grew(now);
                if queued == 0 {
                    assert!(grew && now.is_empty(), "empty: its input was low");
                } else if !unseen {
                    assert_eq!(grew, came);
                } else {
                    assert!(came || !grew, "nothing came");
                }
                known = now;
                (came, unseen) = (false, false);
            }
        }
    }
}

/// The counters of a descriptor: whoever looks sees all that was given since, however often.
fn signs(given: &[(u8, bool)]) {
    static TABLE: FdTable = FdTable::new();
    let Some(entry) = TABLE.get(0) else { return };
    let mut seen = entry.look();
    let mut expected = Signs::empty();
    for &(bits, look) in given {
        let signs = Signs::from_bits_truncate(bits);
        if expected.contains(Signs::FAILED) && signs.contains(Signs::FAILED) {
            expected |= Signs::WOKEN;
        }
        expected |= signs;
        entry.call_begins();
        assert!(entry.peek().is_in_call());
        entry.call_ends(signs);
        assert!(!entry.peek().is_in_call());
        if look {
            let now = entry.look();
            assert_eq!(now.since(seen), expected);
            (seen, expected) = (now, Signs::empty());
        }
    }
}
