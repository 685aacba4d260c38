//! Signs: what the program's own calls show of a file that its levels do not.

use bitflags::bitflags;

bitflags! {
    /// What calls have shown.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Signs: u8 {
        /// A read found the end of what there was.
        const DRAINED = 1 << 0;
        /// A write found no more room.
        const FILLED = 1 << 1;
        /// The file woke those who wait for input, whatever its level was.
        const WOKEN_IN = 1 << 2;
        /// The file woke those who wait for room, whatever its level was.
        const WOKEN_OUT = 1 << 3;
        /// A read was told of an error, which woke everybody when it came.
        const FAILED = 1 << 4;
        /// A read took something: where nothing was known to be there, it came and went.
        const TOOK = 1 << 5;
        /// The file woke everybody, for whatever there is.
        const WOKEN = 1 << 6;
    }
}

impl Signs {
    /// Where the counter of one sign begins.
    fn counter(self) -> u32 {
        self.bits().trailing_zeros() * Evidence::BITS
    }
}

/// The signs of a file so far, as seven counters of 8 bits. Items keep the counts that they last acted on. A counter moves
/// only after somebody has looked at it (its bit of `FRESH`), so it cannot wrap round to where the only looker left it,
/// however often the program calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Evidence(pub(crate) u64);

impl Evidence {
    pub(crate) const BITS: u32 = 8;
    const COUNT: u64 = (1 << Self::BITS) - 1;
    const FRESH_SHIFT: u32 = 7 * Self::BITS;
    pub(crate) const COUNTS: u64 = (1 << Self::FRESH_SHIFT) - 1;
    pub(crate) const FRESH: u64 = (Signs::all().bits() as u64) << Self::FRESH_SHIFT;
    /// The number stands in a stack of noticed numbers.
    pub(crate) const QUEUED: u64 = 1 << 63;

    /// What came since `then`.
    #[must_use]
    pub fn since(self, then: Self) -> Signs {
        let moved = (self.0 ^ then.0) & Self::COUNTS;
        if moved == 0 {
            return Signs::empty();
        }
        let has_moved = |sign: &Signs| moved >> sign.counter() & Self::COUNT != 0;
        Signs::all().iter().filter(has_moved).collect()
    }

    /// Counts those signs whose counters somebody has looked at since they last moved. `None`: there are none.
    #[must_use]
    pub(crate) fn count(self, signs: Signs) -> Option<Self> {
        let mut word = self.0;
        for sign in signs.iter() {
            let shift = sign.counter();
            let fresh = u64::from(sign.bits()) << Self::FRESH_SHIFT;
            if word & fresh == 0 {
                let count = (word >> shift).wrapping_add(1) & Self::COUNT;
                word = word & !(Self::COUNT << shift) | count << shift | fresh;
            }
        }
        (word != self.0).then_some(Self(word))
    }
}
