//! How an edge is found over poll(2), which knows only levels. Pure: state in, state out.
//!
//! An edge is a wake-up by the file, not a change of level: new data on a socket that still has old data is an edge.
//! What can be seen of it without the kernel's own wait queues:
//!
//! 1. Each bit of an edge-triggered item is either *armed* or not. Armed: the next time that poll reports it high is
//!    news. A bit that was reported is not armed, and leaves the poll set, else poll would return at once for ever.
//! 2. A bit is armed again when it was seen low ([`Trigger::noticed`]: a report carries the whole state, so what is low
//!    in it is armed), or when the program's own calls prove that it was low or that the file woke its sleepers
//!    ([`Trigger::rearm`]: a read that came back short has emptied a stream; a write to an eventfd wakes whoever polls
//!    it, whatever its count was; a read that took more than any look had seen proves a wake-up in between).
//! 3. Where neither speaks - the program left data in the file, or reads it by a way that the hooks do not see - the
//!    item is in *doubt* ([`Trigger::doubt`]), and the file itself is asked how much is queued in it; growth is an edge.
//!    [`Backlog`] does that sum.
//!
//! Two signs are no evidence. After the end of a stream (RDHUP) a short read arms nothing, for IN stays high and quiet
//! from then on. And HUP and ERR cannot be masked in poll(2): an item that reported them leaves the set whole.
//!
//! PRI, RDHUP, ERR and HUP are armed whether asked for or not: the file wakes everybody when they rise, so the bits that
//! were asked for are reported again then.

use crate::events::{Events, Reports};
use crate::fdtable::Signs;
use crate::files::Kind;
use crate::sys;

/// When a registered file's state is news: the item's mask, and what it has told already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    wanted: Reports,
    /// The bits whose rise is an edge.
    rising: Reports,
    /// Those of them that are armed, where edges are reported.
    armed: Reports,
    state: State,
    /// One report, then none until EPOLL_CTL_MOD.
    once: bool,
    /// The program itself shut the file's reading side: then RDHUP is high, and input may come all the same.
    deaf: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Reported by every wait for as long as it is ready.
    Level,
    /// Reported once an edge.
    Edge,
    /// A one-shot item after its report: registered and mute until EPOLL_CTL_MOD.
    Fired,
}

/// Why an edge-triggered item cannot be left to poll(2) and the hooks alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It reported input, and nothing has shown that the program took it all.
    Unread,
    /// It reported HUP or ERR, which poll cannot mask, and may yet recover.
    Unmaskable,
}

impl Trigger {
    /// The trigger of a fresh registration, or of one that EPOLL_CTL_MOD sets anew: everything is news.
    #[must_use]
    pub fn new(asked: Events, kind: Kind) -> Self {
        let wanted = asked.intersection(Events::REPORTS) | Events::ALWAYS;
        let rising = rising(wanted, kind);
        let state = if asked.contains(Events::ET) { State::Edge } else { State::Level };
        Self {
            wanted: wanted.into(),
            rising: rising.into(),
            armed: rising.into(),
            state,
            once: asked.contains(Events::ONESHOT),
            deaf: false,
        }
    }

    fn wanted(&self) -> Events {
        self.wanted.into()
    }

    fn rising(&self) -> Events {
        self.rising.into()
    }

    /// The armed bits, where it reports edges.
    fn armed(&self) -> Option<Events> {
        (self.state == State::Edge).then(|| self.armed.into())
    }

    fn arm(&mut self, events: Events) {
        self.armed = (Events::from(self.armed) | events & self.rising()).into();
    }

    /// What to poll for; `None` when the item must leave the poll set.
    #[must_use]
    pub fn watch(&self) -> Option<Events> {
        match self.state {
            State::Level => Some(self.wanted()),
            State::Edge => self.armed().filter(|armed| armed.contains(Events::ALWAYS)),
            State::Fired => None,
        }
    }

    /// All that a report may need to know of the file. Where that is more than [`Trigger::watch`], a hit of the poll
    /// set must be asked again with this mask: an edge for IN reports OUT too.
    #[must_use]
    pub fn whole(&self) -> Events {
        match self.state {
            State::Level | State::Fired => self.wanted(),
            State::Edge => self.rising(),
        }
    }

    /// What to report of a file in this state; `None` when it is no news. `levels` covers [`Trigger::whole`].
    #[must_use]
    pub fn news(&self, levels: Events) -> Option<Events> {
        let report = levels & self.wanted();
        let fresh = match self.state {
            State::Level => report,
            State::Edge => levels & self.armed.into(),
            State::Fired => Events::empty(),
        };
        (!fresh.is_empty() && !report.is_empty()).then_some(report)
    }

    /// The file was seen in this state without a report: nothing of it concerns the program.
    pub fn noticed(&mut self, levels: Events) {
        if self.state == State::Edge {
            self.armed = (self.rising() - levels).into();
        }
    }

    /// The file's state was reported.
    pub fn reported(&mut self, levels: Events) {
        self.noticed(levels);
        if self.once {
            self.state = State::Fired;
        }
    }

    /// Takes what the program's own calls have shown of a file of this kind.
    pub fn rearm(&mut self, signs: Signs, kind: Kind) {
        let Some(armed) = self.armed() else { return };
        let wanted = self.wanted();
        let mut again = Events::empty();
        // After RDHUP IN is high for good, and a short read says nothing.
        if signs.contains(Signs::DRAINED) && armed.contains(Events::RDHUP) {
            again |= Events::READ;
        }
        if signs.contains(Signs::FILLED) {
            again |= Events::WRITE;
        }
        // A wake-up for input is one for who asked for input, and then tells all that is high, be it only OUT because the
        // input was read already.
        if signs.contains(Signs::WOKEN_IN) && wanted.intersects(kind.wakes_for_input()) {
            again |= wanted - Events::ALWAYS;
        }
        if signs.contains(Signs::WOKEN_OUT) && wanted.intersects(kind.wakes_for_room()) {
            again |= wanted - Events::ALWAYS;
        }
        // An error that was not reported had woken everybody when it came.
        if signs.contains(Signs::WOKEN)
            || signs.contains(Signs::FAILED) && armed.contains(Events::ERR)
        {
            again = Events::REPORTS;
        }
        // The call that was told of an error took it away: the next one is new.
        if signs.contains(Signs::FAILED) {
            again |= Events::ERR;
        }
        self.arm(again);
    }

    /// The file's queue was seen to grow, or to be empty: the next look at IN is news.
    pub fn rearm_input(&mut self) {
        if self.armed().is_some_and(|armed| self.deaf || armed.contains(Events::RDHUP)) {
            self.arm(Events::READ);
        }
    }

    /// Whether the item has to be asked about, and why. `told` is what its last report counted.
    #[must_use]
    pub fn doubt(&self, kind: Kind, told: Option<Backlog>) -> Option<Doubt> {
        let armed = self.armed()?;
        // An instance tells by itself what is new in it.
        if kind == Kind::Epoll {
            return None;
        }
        if !armed.contains(Events::ALWAYS) {
            // A connection that was told when it was closed stays so; before, it may yet be reset.
            let closed = matches!(told, Some(Backlog::Ended { state: sys::TCP_CLOSE, .. }));
            let over = closed
                && kind == Kind::Tcp
                && !self.deaf
                && !armed.intersects(Events::RDHUP | Events::HUP)
                && !armed.intersects(self.wanted() - Events::ALWAYS);
            return (!over).then_some(Doubt::Unmaskable);
        }
        let input = self.rising() & (Events::IN | Events::RDNORM);
        let more_may_come = self.deaf || armed.contains(Events::RDHUP);
        // An urgent byte that was reported stays until the program has read past it, and another one may follow.
        let urgent = kind == Kind::Tcp && !(self.rising() & (Events::PRI - armed)).is_empty();
        let unread = (urgent || !(input - armed).is_empty()) && more_may_come;
        unread.then_some(Doubt::Unread)
    }

    /// The program shut the reading side.
    pub fn shut(&mut self) {
        self.deaf = true;
    }

    /// Whether a wake-up for these concerns it.
    #[must_use]
    pub fn wants(&self, events: Events) -> bool {
        !self.is_fired() && self.wanted().intersects(events)
    }

    /// Whether the rise of input concerns it.
    #[must_use]
    pub fn watches_input(&self) -> bool {
        self.rising().intersects(Events::IN | Events::RDNORM)
    }

    /// Whether input is news when poll reports it.
    #[must_use]
    pub fn is_input_armed(&self) -> bool {
        match self.state {
            State::Level => true,
            State::Edge => {
                Events::from(self.armed).contains(self.rising() & (Events::IN | Events::RDNORM))
            }
            State::Fired => false,
        }
    }

    /// Whether room is news when poll reports it.
    #[must_use]
    pub fn is_room_armed(&self) -> bool {
        self.armed().is_none_or(|armed| armed.contains(self.wanted() & Events::WRITE))
    }

    /// Whether it has reported a hang-up, which was not over since.
    #[must_use]
    pub fn reported_hup(&self) -> bool {
        self.armed().is_some_and(|armed| !armed.contains(Events::HUP))
    }

    /// Whether it reports edges: it wants the hooks' evidence.
    #[must_use]
    pub fn is_edge(&self) -> bool {
        self.state == State::Edge
    }

    /// Whether a report leaves it ready, as level-triggered items are until they are seen low.
    #[must_use]
    pub fn stays_ready(&self) -> bool {
        self.state == State::Level && !self.once
    }

    /// Whether it is a one-shot item that has fired.
    #[must_use]
    pub fn is_fired(&self) -> bool {
        self.state == State::Fired
    }
}

/// The bits whose rise is an edge for an item with this mask. An urgent byte wakes who waits for input; and a socket's
/// input wakes who waits for an urgent byte.
fn rising(wanted: Events, kind: Kind) -> Events {
    let mut rising = wanted | Events::ALWAYS | Events::RDHUP;
    if wanted.intersects(Events::READ) {
        rising |= Events::PRI;
    }
    if kind.is_socket() && wanted.intersects(kind.wakes_for_input()) {
        rising |= Events::IN;
    }
    rising
}

/// How far a file's input had come when it was last reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// What waited to be read.
    Queue {
        /// What the file counted.
        queued: u32,
        /// What the hooks had counted of the program's reads, modulo 2^32.
        consumed: u32,
    },
    /// All that ever came, modulo 2^32: of a TCP connection with an urgent byte, which hides what is queued behind it.
    Arrivals(u32),
    /// The signals that wait for the thread, as bits.
    Pending(u64),
    /// A TCP connection that hung up and goes on to its end, or was shut before it was made and goes on.
    Ended {
        /// Its state (tcpi_state).
        state: u8,
        /// All that ever came, modulo 2^32.
        arrivals: u32,
    },
}

impl Backlog {
    /// Whether the program has read more than `self` counted, given what it has read by now.
    #[must_use]
    pub fn is_exceeded(self, by_now: u32) -> bool {
        match self {
            Self::Queue { queued, consumed } => by_now.wrapping_sub(consumed) > queued,
            Self::Arrivals(_) | Self::Pending(_) | Self::Ended { .. } => false,
        }
    }

    /// Whether the file counts nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        matches!(self, Self::Queue { queued: 0, .. } | Self::Pending(0))
    }

    /// Whether something came after `self` was taken, given the file's state `now`. An empty file counts as such: its
    /// input was seen low. Where more went than the program's visible reads took, somebody else reads it too: the
    /// count starts again from `now`.
    pub fn grew(&mut self, now: Self) -> bool {
        let (then, queued, read) = match (*self, now) {
            (Self::Queue { queued: then, consumed }, Self::Queue { queued, consumed: by_now }) => {
                (then, queued, by_now.wrapping_sub(consumed))
            }
            (then, now) => {
                *self = now;
                return match (then, now) {
                    (Self::Arrivals(then), Self::Arrivals(now)) => then != now,
                    (Self::Ended { .. }, Self::Ended { .. }) => then != now,
                    (Self::Pending(then), Self::Pending(now)) => now & !then != 0,
                    // Counted in another way from now on.
                    _ => false,
                };
            }
        };
        let came = u64::from(queued) + u64::from(read);
        if queued == 0 || came > u64::from(then) {
            return true;
        }
        if came < u64::from(then) {
            *self = now;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(events: Events) -> Trigger {
        Trigger::new(events | Events::ET, Kind::Tcp)
    }

    #[test]
    fn a_level_is_news_as_long_as_it_is_high() {
        let mut item = Trigger::new(Events::IN, Kind::Tcp);
        for _ in 0..3 {
            assert_eq!(item.news(Events::IN | Events::OUT), Some(Events::IN));
            item.reported(Events::IN);
        }
        assert_eq!(item.news(Events::OUT), None);
        assert_eq!(item.watch(), Some(Events::IN | Events::ALWAYS));
    }

    #[test]
    fn a_mask_of_nothing_still_reports_hup_and_err() {
        for mode in [Events::empty(), Events::ET] {
            let item = Trigger::new(mode, Kind::Pipe);
            assert_eq!(item.news(Events::HUP | Events::IN), Some(Events::HUP));
            assert_eq!(item.news(Events::IN), None);
        }
    }

    #[test]
    fn an_edge_is_news_once() {
        let mut item = edge(Events::IN);
        assert_eq!(item.news(Events::IN), Some(Events::IN));
        item.reported(Events::IN);
        assert_eq!(item.news(Events::IN), None);
        assert!(!item.watch().unwrap().contains(Events::IN));
    }

    #[test]
    fn low_then_high_is_an_edge() {
        let mut item = edge(Events::IN | Events::OUT);
        item.reported(Events::OUT);
        assert_eq!(item.news(Events::IN | Events::OUT), Some(Events::IN | Events::OUT));
        item.reported(Events::IN);
        assert_eq!(
            item.news(Events::IN | Events::OUT),
            Some(Events::IN | Events::OUT),
            "OUT was low"
        );
    }

    #[test]
    fn signs_arm_what_they_prove() {
        let mut item = edge(Events::IN | Events::OUT);
        item.reported(Events::IN | Events::OUT);
        item.rearm(Signs::FILLED, Kind::Tcp);
        assert_eq!(item.watch().unwrap() & (Events::IN | Events::OUT), Events::OUT);
        item.reported(Events::IN | Events::OUT);
        item.rearm(Signs::DRAINED, Kind::Tcp);
        assert_eq!(item.watch().unwrap() & (Events::IN | Events::OUT), Events::IN);
        item.reported(Events::IN | Events::OUT);
        item.rearm(Signs::WOKEN_IN, Kind::Tcp);
        assert_eq!(
            item.news(Events::OUT),
            Some(Events::OUT),
            "the input was read, the wake-up stays"
        );
    }

    #[test]
    fn the_end_of_a_stream_is_an_edge_of_its_own_and_the_last() {
        let mut item = edge(Events::IN);
        item.reported(Events::IN);
        let end = Events::IN | Events::RDHUP;
        assert_eq!(item.news(end), Some(Events::IN), "RDHUP wakes although it was not asked for");
        item.reported(end);
        item.rearm(Signs::DRAINED, Kind::Tcp);
        assert_eq!(item.news(end), None, "a read of 0 does not start it again");
        assert_eq!(item.doubt(Kind::Tcp, None), None);
    }

    #[test]
    fn hup_and_err_leave_the_set() {
        let mut item = edge(Events::IN);
        item.reported(Events::HUP);
        assert_eq!(item.watch(), None);
        assert_eq!(item.doubt(Kind::Pipe, None), Some(Doubt::Unmaskable));
        item.noticed(Events::empty());
        assert!(item.watch().is_some());
        item.reported(Events::HUP | Events::RDHUP | Events::IN);
        assert_eq!(item.doubt(Kind::Tcp, None), Some(Doubt::Unmaskable), "a reset may follow");
        let closed = Backlog::Ended { state: sys::TCP_CLOSE, arrivals: 0 };
        assert_eq!(item.doubt(Kind::Tcp, Some(closed)), None, "nothing can follow");
    }

    #[test]
    fn an_error_that_came_and_went_is_told_by_what_is_left() {
        let mut item = edge(Events::IN);
        item.reported(Events::IN);
        item.rearm(Signs::FAILED, Kind::Tcp);
        assert_eq!(item.news(Events::IN), Some(Events::IN));
        item.reported(Events::IN | Events::ERR);
        item.rearm(Signs::FAILED, Kind::Tcp);
        assert_eq!(item.news(Events::IN), None, "it was told");
        assert_eq!(item.news(Events::ERR), Some(Events::ERR), "and another one is news");
    }

    #[test]
    fn one_shot_disarms_the_whole_item() {
        for mode in [Events::empty(), Events::ET] {
            let mut item = Trigger::new(Events::IN | Events::ONESHOT | mode, Kind::Tcp);
            item.reported(Events::IN);
            assert!(item.is_fired());
            assert_eq!(item.news(Events::IN | Events::HUP | Events::ERR), None);
            item.rearm(Signs::DRAINED, Kind::Tcp);
            assert_eq!(item.watch(), None);
        }
    }

    #[test]
    fn unread_input_is_doubtful_until_it_is_armed() {
        let mut item = edge(Events::IN);
        assert_eq!(item.doubt(Kind::Pipe, None), None);
        item.reported(Events::IN);
        assert_eq!(item.doubt(Kind::Pipe, None), Some(Doubt::Unread));
        item.rearm_input();
        assert_eq!(item.doubt(Kind::Pipe, None), None);
        let mut output = edge(Events::OUT);
        output.reported(Events::OUT);
        assert_eq!(output.doubt(Kind::Pipe, None), None);
    }

    #[test]
    fn a_backlog_grows_by_what_came() {
        let at = |queued, consumed| Backlog::Queue { queued, consumed };
        assert!(!at(10, 0).grew(at(10, 0)));
        assert!(at(10, 0).grew(at(11, 0)));
        assert!(!at(10, 0).grew(at(6, 4)), "only read");
        assert!(at(10, 0).grew(at(9, 4)), "read 4, and 3 came");
        assert!(at(10, u32::MAX).grew(at(9, 3)), "the counter wraps");
        assert!(at(10, 0).grew(at(0, 10)), "empty is low");
        let mut shared = at(10, 0);
        assert!(!shared.grew(at(5, 0)), "somebody else read");
        assert_eq!(shared, at(5, 0));
        assert!(shared.grew(at(6, 0)));
        let mut urgent = Backlog::Arrivals(u32::MAX);
        assert!(!urgent.grew(Backlog::Arrivals(u32::MAX)));
        assert!(urgent.grew(Backlog::Arrivals(0)));
        let mut signals = Backlog::Pending(0b11);
        assert!(!signals.grew(Backlog::Pending(0b01)));
        assert!(signals.grew(Backlog::Pending(0b10)), "gone, and come again");
    }
}
