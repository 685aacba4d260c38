//! Refusals on demand, for tests of what becomes of them (`make faults`): the k-th time that a resource is asked for, or
//! each time from then on, there is none.
//!
//! Only with the feature `faults`. Without it nothing is ever refused, and the compiler leaves nothing of all this.

use std::collections::TryReserveError;

use syscalls::Errno;

use crate::sys::Result;

/// What may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Memory of the library's own heap.
    Memory,
    /// A descriptor, for a moment or for good.
    Descriptor,
    /// A watcher thread.
    Thread,
    /// What the kernel needs for a ppoll(2) of many.
    Poll,
}

/// Makes room for a call that may say ENOMEM. All others - a wait, a close, a removal - have the heap's reserve, and a test
/// does not refuse them anything: with the reserve gone, too, a wait would say ENOMEM where it can, and most would be an
/// abort.
///
/// # Errors
/// ENOMEM.
pub fn make_room(reserve: impl FnOnce() -> std::result::Result<(), TryReserveError>) -> Result<()> {
    let _asking = demand::Asking::begin();
    reserve().map_err(|_| Errno::ENOMEM)
}

pub use demand::{is_scarce, refuses};

#[cfg(not(feature = "faults"))]
mod demand {
    use super::Resource;

    pub struct Asking;

    impl Asking {
        pub const fn begin() -> Self {
            Self
        }
    }

    /// Asks for one of a resource. True: it is refused.
    #[inline(always)]
    pub const fn refuses(_: Resource) -> bool {
        false
    }

    /// Whether there is none of it from now on.
    #[inline(always)]
    pub const fn is_scarce(_: Resource) -> bool {
        false
    }
}

#[cfg(feature = "faults")]
pub use demand::{is_asking, set};

#[cfg(feature = "faults")]
mod demand {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::Resource;

    struct Demand {
        asked: AtomicU64,
        /// Which one is refused; 0: none.
        refused: AtomicU64,
        /// Whether all are after that one.
        for_good: AtomicBool,
    }

    static DEMANDS: [Demand; 4] = [const {
        Demand {
            asked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            for_good: AtomicBool::new(false),
        }
    }; 4];

    thread_local! {
        static ASKING: Cell<bool> = const { Cell::new(false) };
    }

    /// The stretch in which the calling thread can be told that there is no memory.
    pub struct Asking;

    impl Asking {
        pub fn begin() -> Self {
            ASKING.set(true);
            Self
        }
    }

    impl Drop for Asking {
        fn drop(&mut self) {
            ASKING.set(false);
        }
    }

    /// Whether the calling thread is in such a stretch.
    pub fn is_asking() -> bool {
        ASKING.get()
    }

    /// From now on the `refused`-th time (0: never) that a resource is asked for, it is refused; `for_good`: and from then
    /// on. Gives how often it was asked for since the last call.
    pub fn set(resource: Resource, refused: u64, for_good: bool) -> u64 {
        let demand = &DEMANDS[resource as usize];
        demand.refused.store(0, Ordering::SeqCst);
        let asked = demand.asked.swap(0, Ordering::SeqCst);
        demand.for_good.store(for_good, Ordering::SeqCst);
        demand.refused.store(refused, Ordering::SeqCst);
        asked
    }

    /// Asks for one of a resource. True: it is refused.
    pub fn refuses(resource: Resource) -> bool {
        let demand = &DEMANDS[resource as usize];
        let this = demand.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let refused = demand.refused.load(Ordering::SeqCst);
        refused != 0
            && (this == refused || this > refused && demand.for_good.load(Ordering::SeqCst))
    }

    /// Whether there is none of it from now on.
    pub fn is_scarce(resource: Resource) -> bool {
        let demand = &DEMANDS[resource as usize];
        let refused = demand.refused.load(Ordering::SeqCst);
        refused != 0
            && demand.for_good.load(Ordering::SeqCst)
            && demand.asked.load(Ordering::SeqCst) >= refused
    }
}
