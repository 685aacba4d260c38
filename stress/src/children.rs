//! What a child of fork does: some epoll work, on instances of its own and on those that it inherited.
//!
//! Natively the inherited ones are shared with the parent, under the library they are copies. Either way what the child
//! adds is told to the child, and what it closes is gone.

use crate::messages::{TAG_ALWAYS, TAG_CHILD, data};
use crate::sys::{self, Answer, End, Fd, NO_EVENT};

/// A child that takes longer hangs. Seconds.
const LIMIT: u32 = 60;

type Step = fn(Fd, Fd) -> Answer<bool>;

/// Status of the first step that failed.
pub fn work(way: u8, common: Fd, busy: Fd) -> u8 {
    sys::alarm(LIMIT);
    let steps: [(u8, Step); 3] = [(1, on_inherited), (2, beside_others), (3, on_its_own)];
    for (bit, step) in steps {
        // Its own is always the last: it closes all others.
        if bit == 3 || way & bit != 0 {
            match step(common, busy) {
                Ok(true) => {}
                Ok(false) => return bit,
                Err(error) => return 10 * bit + (error % 10) as u8,
            }
        }
    }
    if way & 4 != 0 {
        let grandchild = sys::fork(|| u8::from(on_its_own(common, busy) != Ok(true)));
        return match grandchild.and_then(sys::wait_for_child) {
            Ok(End::Exit(0)) => 0,
            _ => 4,
        };
    }
    0
}

pub fn tell(end: End, way: u8) -> String {
    match end {
        End::Signal(libc::SIGALRM) => format!("hanging for {LIMIT} seconds (way {way:#x})"),
        end => format!(
            "{end:?} (way {way:#x}; 1: inherited, 2: busy, 3: own, 4: grandchild; tens: with that error)"
        ),
    }
}

/// Waits in an inherited instance until both its own item and the parent's were told.
fn on_inherited(common: Fd, _: Fd) -> Answer<bool> {
    let [read_end, write_end] = sys::pipe()?;
    let own = data(TAG_CHILD, 0, sys::process_id() as u64);
    sys::add(common, read_end, sys::IN, own)?;
    sys::write(write_end, b"c")?;
    let (mut was_own, mut was_always) = (false, false);
    while !(was_own && was_always) {
        let mut events = [NO_EVENT; 16];
        let count = match sys::wait(common, &mut events, -1) {
            Err(libc::EINTR) => 0,
            count => count?,
        };
        for event in &events[..count] {
            let told = event.u64;
            was_own |= told == own;
            was_always |= told == data(TAG_ALWAYS, 0, 0);
        }
    }
    sys::modify(common, read_end, sys::IN | sys::ONESHOT, own)?;
    sys::delete(common, read_end)?;
    sys::close(read_end)?;
    sys::close(write_end)?;
    Ok(true)
}

/// epoll_ctl on an instance of which the parent's threads are in the middle of waits.
fn beside_others(_: Fd, busy: Fd) -> Answer<bool> {
    let [read_end, write_end] = sys::pipe()?;
    let own = data(TAG_CHILD, 0, 0);
    sys::add(busy, read_end, sys::IN | sys::ET, own)?;
    let is_twice = sys::add(busy, read_end, sys::IN, own) == Err(libc::EEXIST);
    sys::modify(busy, read_end, sys::IN, own)?;
    sys::delete(busy, read_end)?;
    let is_gone = sys::delete(busy, read_end) == Err(libc::ENOENT);
    sys::close(read_end)?;
    sys::close(write_end)?;
    Ok(is_twice && is_gone)
}

/// Everything inherited is closed, and an instance made anew.
fn on_its_own(_: Fd, _: Fd) -> Answer<bool> {
    sys::close_from(3)?;
    let (epoll, bell) = (sys::epoll()?, sys::eventfd()?);
    let [read_end, write_end] = sys::pipe()?;
    sys::add(epoll, read_end, sys::IN | sys::ET, 1)?;
    sys::add(epoll, bell, sys::IN | sys::ONESHOT, 2)?;
    let mut sums = Vec::new();
    let mut events = [NO_EVENT; 4];
    let mut look = || {
        let count = sys::wait(epoll, &mut events, 0)?;
        sums.push(events[..count].iter().map(|event| event.u64).sum::<u64>());
        Answer::Ok(())
    };
    look()?;
    sys::write(write_end, b"x")?;
    look()?;
    sys::write(bell, &1u64.to_ne_bytes())?;
    look()?;
    sys::write(bell, &1u64.to_ne_bytes())?;
    look()?;
    sys::close(read_end)?;
    sys::modify(epoll, bell, sys::IN, 4)?;
    look()?;
    for fd in [epoll, bell, write_end] {
        sys::close(fd)?;
    }
    Ok(sums == [0, 1, 2, 0, 4])
}
