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

/// The signs of a file so far, as seven counters. Items keep the counts that they last acted on. A counter moves only after
/// somebody has looked at it (its bit of `FRESH`), so it cannot wrap round to where the only looker left it, however often
/// the program calls.
///
/// In the same word stands how many calls are on their way that may give a sign: such a call ends in the moment in which it
/// gives it. So who looks knows whether what it sees may still get its sign, or had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Evidence(pub(crate) u64);

impl Evidence {
    pub(crate) const BITS: u32 = 7;
    const COUNT: u64 = (1 << Self::BITS) - 1;
    const FRESH_SHIFT: u32 = 7 * Self::BITS;
    pub(crate) const COUNTS: u64 = (1 << Self::FRESH_SHIFT) - 1;
    pub(crate) const FRESH: u64 = (Signs::all().bits() as u64) << Self::FRESH_SHIFT;
    /// The lowest bit of each counter, and the highest.
    const LOWEST: u64 = Self::COUNTS / Self::COUNT;
    const HIGHEST: u64 = Self::LOWEST << (Self::BITS - 1);
    /// A factor that brings the lowest bits of all counters together, from bit 36 on: the one of counter i stands at 7i, and
    /// comes to 7i + 6 (6 - i). No two products meet.
    const GATHER: u64 = 0x10_4104_1041;
    const CALL: u64 = 1 << 56;
    /// The calls on their way. More than these are not counted.
    pub(crate) const CALLS: u64 = 0x7f << 56;

    /// Whether a call is on its way.
    #[must_use]
    pub fn is_in_call(self) -> bool {
        self.0 & Self::CALLS != 0
    }

    /// With one call more on its way, if it can be counted.
    #[must_use]
    pub(crate) fn begin(self) -> Option<Self> {
        (self.0 & Self::CALLS != Self::CALLS).then_some(Self(self.0 + Self::CALL))
    }

    /// With one call less. One that was not counted, or on the number's last file, does not count here either.
    #[must_use]
    pub(crate) fn end(self) -> Self {
        if self.is_in_call() { Self(self.0 - Self::CALL) } else { self }
    }

    /// What came since `then`.
    #[must_use]
    pub fn since(self, then: Self) -> Signs {
        let moved = (self.0 ^ then.0) & Self::COUNTS;
        if moved == 0 {
            return Signs::empty();
        }
        // A counter's lower bits and their greatest value sum up to its highest bit, unless they are 0.
        let lower = Self::COUNTS - Self::HIGHEST;
        let any = (((moved & lower) + lower) | moved) & Self::HIGHEST;
        let bits = (any >> (Self::BITS - 1)).wrapping_mul(Self::GATHER) >> 36;
        let signs = Signs::from_bits_truncate(bits as u8 & Signs::all().bits());
        // A second error came after the first was taken: whatever it woke is still to be told.
        let shift = Signs::FAILED.bits().trailing_zeros() * Self::BITS;
        let failures = (self.0 >> shift).wrapping_sub(then.0 >> shift) & Self::COUNT;
        if failures > 1 { signs | Signs::WOKEN } else { signs }
    }

    /// Counts those signs whose counters somebody has looked at since they last moved. `None`: there are none.
    #[must_use]
    pub(crate) fn count(self, mut signs: Signs) -> Option<Self> {
        let mut word = self.0;
        // The same, where nobody looked between the two.
        let failed = u64::from(Signs::FAILED.bits()) << Self::FRESH_SHIFT;
        if signs.contains(Signs::FAILED) && word & failed != 0 {
            signs |= Signs::WOKEN;
        }
        let stale = u64::from(signs.bits()) & !(word >> Self::FRESH_SHIFT);
        let mut left = stale;
        while left != 0 {
            let shift = left.trailing_zeros() * Self::BITS;
            let count = (word >> shift).wrapping_add(1) & Self::COUNT;
            word = word & !(Self::COUNT << shift) | count << shift;
            left &= left - 1;
        }
        word |= stale << Self::FRESH_SHIFT;
        (word != self.0).then_some(Self(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_of_signs_comes_back() {
        // Counters at all heights, the last before they go round among them.
        for height in 0..128 {
            let then = Evidence(height * Evidence::LOWEST);
            for bits in 0..=Signs::all().bits() {
                let signs = Signs::from_bits_truncate(bits);
                let now = then.count(signs).unwrap_or(then);
                assert_eq!(now.since(then), signs);
                assert_eq!(now.0 & Evidence::CALLS, 0);
            }
        }
    }
}
