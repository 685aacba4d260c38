//! The stack of noticed numbers: how a hook tells an instance that a descriptor wants a look, without a lock.
//!
//! It is linked through the descriptor table ([`Entry::link`](crate::fdtable::Entry)), so a push allocates nothing and
//! may happen in a signal handler; only whole stacks are taken, so there is no ABA. A number stands in one stack at a
//! time. A number that still stands in another instance's stack when it is registered here is looked at with every wait
//! instead ([`Inner::crowded`](crate::instance)).

use std::os::fd::RawFd;

use crate::fdtable::FdTable;
use crate::sync::atomic::{AtomicU32, Ordering};

const END: u32 = u32::MAX;

/// A stack of descriptor numbers.
pub struct Notices(AtomicU32);

impl Default for Notices {
    fn default() -> Self {
        Self(AtomicU32::new(END))
    }
}

impl Notices {
    /// Whether nothing was noticed.
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::SeqCst) == END
    }

    /// Puts a number on the stack, unless it stands in one.
    pub fn push(&self, table: &FdTable, fd: RawFd) {
        let Some(entry) = table.get(fd) else { return };
        if !entry.enqueue() {
            return;
        }
        let mut head = self.0.load(Ordering::SeqCst);
        loop {
            entry.link.store(head, Ordering::SeqCst);
            match self.0.compare_exchange(head, fd as u32, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes all numbers, the last pushed first. Each may be pushed again from the moment that it is given out.
    pub fn take<'a>(&self, table: &'a FdTable) -> impl Iterator<Item = RawFd> + use<'a> {
        let mut next = self.0.swap(END, Ordering::SeqCst);
        std::iter::from_fn(move || {
            let fd = next as RawFd;
            let entry = (next != END).then(|| table.get(fd)).flatten()?;
            next = entry.link.load(Ordering::SeqCst);
            entry.dequeue();
            Some(fd)
        })
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
    fn threads_lose_no_number() {
        // Of each thread; Miri is slow.
        const EACH: i32 = if cfg!(miri) { 25 } else { 1000 };
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
            }
        });
        assert!(notices.is_empty());
    }
}
