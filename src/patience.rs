//! How long an item must have been silent before it is parked.
//!
//! In the hot set an item costs something with each poll; with a watcher it costs nothing until it stirs, and then as
//! much as [`LONG`] of polling: the watcher polls all of its shard anew, and two threads are woken. Who knew when it will
//! stir next would park it at once or not at all. What is known is how it went with the others: an item that stirs soon
//! after it was parked should have been kept, one that is silent for long need not have been kept at all. Both are
//! booked, in what they have cost, and the balance says how long to keep the next.
//!
//! All is counted on the set's clock ([`Set::clock`](crate::backend::Set::clock)): what polls have cost each descriptor.

/// Kept at least so long: whatever is served in turn is silent for a while. A clock's unit is a look (50 to 120 ns).
pub const SHORT: u32 = if cfg!(shuttle) { 2 } else { 64 };
/// Kept at most so long: then it has cost about as much as its return from a watcher. With more, thousands that stir in
/// turn all end up in the hot set, where each look takes so long that none of them is silent for many looks.
pub const LONG: u32 = if cfg!(shuttle) { 4 } else { 192 };
/// The descriptors of a small instance are cheap, their memory being warm, and a return is not: kept at least so long,
/// divided by how many there are, hot or parked. 64 that are served in turn, one with each wait, must not look idle.
const SMALL: u32 = if cfg!(shuttle) { 1 } else { 20_480 };
/// The memory of more hot ones than this is cold, and a look at one costs some four times as much (300 ns a socket): each
/// look then counts as so many. Without it a crowd that was registered at once stays hot for a quarter of a second.
const COLD: usize = 1_024;
const COLD_FACTOR: u32 = 4;
/// The balance is kept within this, so that it can turn: some hundred items decide.
const LIMIT: i64 = 64 * LONG as i64;

/// So many of what was last parked are remembered, about.
const WINDOW: u32 = 256;

/// What patience has brought so far. Pure.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    now: u32,
    looked: u32,
    balance: i64,
    /// Items parked, and come back, of late.
    parkings: u32,
    returns: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { now: 0, looked: 0, balance: -LIMIT, parkings: 0, returns: 0 }
    }
}

impl Patience {
    /// The set's clock before a wait. True: it is time to look for idle items.
    pub fn is_over(&mut self, clock: u32) -> bool {
        self.now = clock;
        let over = clock.wrapping_sub(self.looked) >= SHORT / 2;
        if over {
            self.looked = clock;
        }
        over
    }

    /// How long an item of an instance must have been silent that has so many, and so many of them hot.
    pub fn silence(&self, size: usize, hot: usize) -> u32 {
        let range = i64::from(LONG - SHORT);
        let learned = SHORT + ((self.balance + LIMIT) * range / (2 * LIMIT)) as u32;
        let learned = if hot > COLD { learned / COLD_FACTOR } else { learned };
        learned.max(SMALL / (size.max(1) as u32))
    }

    /// Hot items were silent for longer than [`SHORT`] and stirred: that they were kept has saved so much.
    pub fn kept(&mut self, saved: u32) {
        self.book(i64::from(saved));
    }

    /// An item is parked. Until it returns, to have kept it for long would have been, or was, in vain.
    pub fn parked(&mut self) {
        self.book(-i64::from(LONG - SHORT));
        self.parkings += 1;
        if self.parkings >= WINDOW {
            self.parkings /= 2;
            self.returns /= 2;
        }
    }

    /// A parked item comes back.
    pub fn came_back(&mut self) {
        self.returns = (self.returns + 1).min(WINDOW);
    }

    /// Whether most of what is parked comes back, as with activity that moves about.
    #[must_use]
    pub fn is_lively(&self) -> bool {
        2 * self.returns > self.parkings
    }

    /// A parked item stirs, that was silent since then.
    pub fn returned(&mut self, since: u32) {
        self.came_back();
        let saving = saving(self.now.wrapping_sub(since));
        if saving > 0 {
            self.book(i64::from(LONG - SHORT) + i64::from(saving));
        }
    }

    fn book(&mut self, amount: i64) {
        self.balance = (self.balance + amount).clamp(-LIMIT, LIMIT);
    }
}

/// What it saves to have kept an item that was silent for so long: its return, less what keeping it cost beyond the
/// shortest time.
pub fn saving(silence: u32) -> u32 {
    if (SHORT + 1..=LONG).contains(&silence) { LONG + SHORT - silence } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Too many for the size to matter.
    const MANY: usize = 9_000;

    /// Many items that are silent for so long each time.
    fn learn(patience: &mut Patience, silence: u32) {
        for _ in 0..1_000 {
            patience.now = patience.now.wrapping_add(silence);
            if silence < patience.silence(MANY, 0) {
                patience.kept(saving(silence));
            } else {
                patience.parked();
                patience.returned(patience.now.wrapping_sub(silence));
            }
        }
    }

    #[test]
    fn what_returns_soon_is_kept() {
        let mut patience = Patience::default();
        assert_eq!(patience.silence(MANY, 0), SHORT);
        for silence in [SHORT + 1, LONG / 2, LONG - 1] {
            learn(&mut patience, silence);
            assert!(patience.silence(MANY, 0) > silence, "{silence}: {patience:?}");
        }
    }

    #[test]
    fn what_is_silent_for_long_is_not() {
        let mut patience = Patience { balance: LIMIT, ..Patience::default() };
        assert_eq!(patience.silence(MANY, 0), LONG);
        learn(&mut patience, 3 * LONG);
        assert_eq!(patience.silence(MANY, 0), SHORT);
        // The clock goes round.
        learn(&mut patience, u32::MAX / 3);
        assert_eq!(patience.silence(MANY, 0), SHORT);
    }

    #[test]
    fn a_small_instance_keeps_longer() {
        assert!(Patience::default().silence(66, 0) > 66 * 4);
        assert_eq!(Patience::default().silence(1_000, 0), SHORT);
    }

    #[test]
    fn a_cold_crowd_is_parked_early() {
        let patience = Patience { balance: LIMIT, ..Patience::default() };
        assert_eq!(patience.silence(MANY, COLD), LONG);
        assert_eq!(patience.silence(MANY, MANY), LONG / COLD_FACTOR);
    }

    #[test]
    fn a_crowd_that_stirs_is_lively() {
        let mut patience = Patience::default();
        (0..9_000).for_each(|_| patience.parked());
        assert!(!patience.is_lively());
        for _ in 0..WINDOW {
            patience.came_back();
            patience.parked();
        }
        assert!(patience.is_lively());
        (0..2 * WINDOW).for_each(|_| patience.parked());
        assert!(!patience.is_lively());
    }

    #[test]
    fn what_is_silent_for_a_moment_is_no_news() {
        let mut patience = Patience::default();
        let before = patience.silence(MANY, 0);
        (0..10_000).for_each(|_| patience.kept(saving(SHORT)));
        assert_eq!(patience.silence(MANY, 0), before);
    }
}
