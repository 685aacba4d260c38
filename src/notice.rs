//! The stacks of noticed numbers: how a hook tells an instance that a descriptor wants a look, without a lock.
//!
//! They are linked through the descriptor table ([`Entry`]), so a push allocates nothing and may happen in a signal handler;
//! only whole stacks are taken, so there is no ABA. A number stands in one stack of each sort at a time. A number that
//! still stands in another instance's stack when it is registered here is looked at with every wait instead
//! ([`Inner::crowded`](crate::instance)).
//!
//! Who closes a number has a stack of his own. A thread that gives a sign claims the number's link before it puts it on
//! the stack; a closer that came between the two could put nothing there, would have the leader out of its poll before
//! there is anything to be taken, and it would go back to sleep over the closed file.

use std::os::fd::RawFd;

use crate::fdtable::{Entry, FdTable};
use crate::sync::atomic::{AtomicU32, Ordering};

/// What comes after a number in a stack: [`NONE`], [`END`], or another number plus [`FIRST`].
#[derive(Debug)]
pub struct Link(AtomicU32);

/// It stands in no stack.
const NONE: u32 = 0;
/// It is the last.
const END: u32 = 1;
const FIRST: u32 = 2;

impl Link {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(NONE))
    }

    /// Whether the number stands in a stack, or somebody is about to put it there.
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::SeqCst) != NONE
    }

    /// Marks the number as standing in a stack. False: it is marked already.
    fn claim(&self) -> bool {
        self.0.compare_exchange(NONE, END, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// Which of a number's links a stack goes by.
type Which = fn(&Entry) -> &Link;

/// A stack of descriptor numbers: the last that was pushed.
struct Stack(AtomicU32);

impl Stack {
    fn is_empty(&self) -> bool {
        self.0.load(Ordering::SeqCst) == END
    }

    fn push(&self, table: &FdTable, fd: RawFd, which: Which) {
        let Some(link) = table.get(fd).map(which) else { return };
        if !link.claim() {
            return;
        }
        let mut head = self.0.load(Ordering::SeqCst);
        loop {
            link.0.store(head, Ordering::SeqCst);
            let this = fd as u32 + FIRST;
            match self.0.compare_exchange(head, this, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn take<'a>(&self, table: &'a FdTable, which: Which) -> impl Iterator<Item = RawFd> + use<'a> {
        let mut next = self.0.swap(END, Ordering::SeqCst);
        std::iter::from_fn(move || {
            let fd = next.checked_sub(FIRST)? as RawFd;
            next = which(table.get(fd)?).0.swap(NONE, Ordering::SeqCst);
            Some(fd)
        })
    }
}

/// What was noticed for an instance.
pub struct Notices {
    signs: Stack,
    closes: Stack,
}

impl Default for Notices {
    fn default() -> Self {
        Self { signs: Stack(AtomicU32::new(END)), closes: Stack(AtomicU32::new(END)) }
    }
}

impl Notices {
    /// Whether nothing was noticed.
    pub fn is_empty(&self) -> bool {
        self.signs.is_empty() && self.closes.is_empty()
    }

    /// There are signs of a number: puts it on the stack, unless it stands in one.
    pub fn push(&self, table: &FdTable, fd: RawFd) {
        self.signs.push(table, fd, Entry::sign_link);
    }

    /// A number is being closed.
    pub fn push_closed(&self, table: &FdTable, fd: RawFd) {
        self.closes.push(table, fd, Entry::close_link);
    }

    /// Takes all numbers, the last pushed of each sort first. Each may be pushed again from the moment that it is given
    /// out.
    pub fn take<'a>(&self, table: &'a FdTable) -> impl Iterator<Item = RawFd> + use<'a> {
        self.signs.take(table, Entry::sign_link).chain(self.closes.take(table, Entry::close_link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: FdTable = FdTable::new();

    #[test]
    fn each_number_comes_once_and_may_come_again() {
        let notices = Notices::default();
        for fd in [3, 5, 3] {
            notices.push(&TABLE, fd);
        }
        assert_eq!(notices.take(&TABLE).collect::<Vec<_>>(), [5, 3]);
        assert!(notices.is_empty());
        notices.push(&TABLE, 3);
        assert_eq!(notices.take(&TABLE).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_close_does_not_wait_for_a_sign() {
        static TABLE: FdTable = FdTable::new();
        let notices = Notices::default();
        assert!(TABLE.get(3).unwrap().sign_link().claim(), "somebody is about to push it");
        notices.push_closed(&TABLE, 3);
        assert_eq!(notices.take(&TABLE).collect::<Vec<_>>(), [3]);
        notices.push(&TABLE, 3);
        assert!(notices.is_empty(), "who claimed it does so");
        assert!(TABLE.get(3).unwrap().is_noticed());
    }

    #[test]
    fn threads_lose_no_number() {
        // Of each thread; Miri is slow.
        const EACH: i32 = if cfg!(miri) { 4 } else { 1000 };
        static SHARED: FdTable = FdTable::new();
        let notices = Notices::default();
        let mut seen = vec![false; 4 * EACH as usize];
        std::thread::scope(|scope| {
            for part in 0..4 {
                let notices = &notices;
                scope.spawn(move || {
                    (0..EACH).for_each(|fd| notices.push(&SHARED, part * EACH + fd));
                });
            }
            while seen.iter().any(|seen| !seen) {
                notices.take(&SHARED).for_each(|fd| seen[fd as usize] = true);
                // Miri goes on with one thread for as long as that has something to do.
                std::thread::yield_now();
            }
        });
        assert!(notices.is_empty());
    }
}
