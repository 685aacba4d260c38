//! Signs: what the program's own calls show of a file that its levels do not.

/// What the program's own calls have shown of a descriptor, as five counters of 11 bits. Items keep the counts that
/// they last acted on. A counter moves only after somebody has looked at it (its bit of `FRESH`), so it cannot wrap
/// round to where the only looker left it, however often the program calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Evidence(pub(crate) u64);

/// One of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sign {
    /// A read found the end of what there was.
    Drained = 0,
    /// A write found no more room.
    Filled = 1,
    /// The file woke those who wait for input, whatever its level was.
    WokenIn = 2,
    /// The file woke those who wait for room, whatever its level was.
    WokenOut = 3,
    /// A read was told of an error, which woke everybody when it came.
    Failed = 4,
}

impl Evidence {
    pub(crate) const BITS: u32 = 11;
    pub(crate) const SIGNS: u32 = 5;
    pub(crate) const COUNT: u64 = (1 << Self::BITS) - 1;
    pub(crate) const COUNTS: u64 = (1 << (Self::SIGNS * Self::BITS)) - 1;
    pub(crate) const FRESH: u64 = ((1 << Self::SIGNS) - 1) << (Self::SIGNS * Self::BITS);
    /// The number stands in a stack of noticed numbers.
    pub(crate) const QUEUED: u64 = 1 << 63;

    /// What came since `then`.
    #[must_use]
    pub fn since(self, then: Self) -> Signs {
        let moved = |sign: Sign| (self.0 ^ then.0) >> (sign as u32 * Self::BITS) & Self::COUNT != 0;
        Signs {
            drained: moved(Sign::Drained),
            filled: moved(Sign::Filled),
            woken_in: moved(Sign::WokenIn),
            woken_out: moved(Sign::WokenOut),
            failed: moved(Sign::Failed),
        }
    }
}

/// What the program's calls have shown of a descriptor since an item last looked: which counters moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// [`Sign::Drained`]
    pub drained: bool,
    /// [`Sign::Filled`]
    pub filled: bool,
    /// [`Sign::WokenIn`]
    pub woken_in: bool,
    /// [`Sign::WokenOut`]
    pub woken_out: bool,
    /// [`Sign::Failed`]
    pub failed: bool,
}
