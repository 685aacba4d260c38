//! Whether the program reads its input to the end.
//!
//! With each report of input an edge-triggered item is asked how much is queued (0.3 us), so that more that comes before
//! it was read is known for an edge. For a program that reads until there is nothing left that is in vain: after its last
//! read the level tells. So who did that often enough is trusted to do so again, and no longer asked. The first time that
//! it does not costs one extra edge, for what came since the report cannot be known.

/// An item that was drained so often in a row is trusted ...
const OFTEN: u8 = 64;
/// ... and one that was drained so often, in an instance where all items always were.
const TWICE: u8 = 2;
/// So many drained reports make it a habit of the instance.
const HABIT: u32 = 512;

/// What the program did with an instance's items. Pure.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habit {
    drained: u32,
    broken: bool,
}

impl Habit {
    /// How often in a row an item must have been drained to be trusted.
    #[must_use]
    pub fn needed(self) -> u8 {
        if self.drained >= HABIT && !self.broken { TWICE } else { OFTEN }
    }

    /// An item was drained after its report.
    pub fn keep(&mut self) {
        self.drained = self.drained.saturating_add(1);
    }

    /// A trusted item was not, or threads share the instance: there is no habit, for good.
    pub fn break_off(&mut self) {
        self.broken = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_is_made_slowly_and_broken_at_once() {
        let mut habit = Habit::default();
        assert_eq!(habit.needed(), OFTEN);
        (0..HABIT).for_each(|_| habit.keep());
        assert_eq!(habit.needed(), TWICE);
        habit.break_off();
        (0..2 * HABIT).for_each(|_| habit.keep());
        assert_eq!(habit.needed(), OFTEN);
    }
}
