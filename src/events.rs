//! Event masks, and the one place that maps them to poll(2)'s.

use bitflags::bitflags;

bitflags! {
    /// `epoll_event.events`, as `<sys/epoll.h>` defines it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Events: u32 {
        /// EPOLLIN
        const IN = 0x001;
        /// EPOLLPRI
        const PRI = 0x002;
        /// EPOLLOUT
        const OUT = 0x004;
        /// EPOLLERR: always in the mask, asked for or not.
        const ERR = 0x008;
        /// EPOLLHUP: always in the mask, asked for or not.
        const HUP = 0x010;
        /// EPOLLRDNORM
        const RDNORM = 0x040;
        /// EPOLLRDBAND
        const RDBAND = 0x080;
        /// EPOLLWRNORM
        const WRNORM = 0x100;
        /// EPOLLWRBAND
        const WRBAND = 0x200;
        /// EPOLLMSG
        const MSG = 0x400;
        /// EPOLLRDHUP
        const RDHUP = 0x2000;
        /// EPOLLEXCLUSIVE
        const EXCLUSIVE = 1 << 28;
        /// EPOLLWAKEUP
        const WAKEUP = 1 << 29;
        /// EPOLLONESHOT
        const ONESHOT = 1 << 30;
        /// EPOLLET
        const ET = 1 << 31;

        /// All that a read can take away. Not PRI: that stays until the urgent byte itself is read.
        const READ = 0x001 | 0x040 | 0x080;
        /// All that a write can take away.
        const WRITE = 0x004 | 0x100 | 0x200;
        /// What nobody can mask.
        const ALWAYS = 0x008 | 0x010;
        /// All that a file can report.
        const REPORTS = 0x7df | 0x2000;
        /// How to report, not what.
        const MODES = 0xf << 28;
        /// What may stand beside EPOLLEXCLUSIVE (and itself).
        const WITH_EXCLUSIVE = 0x001 | 0x004 | 0x008 | 0x010 | (1 << 28) | (1 << 29) | (1 << 31);
    }
}

/// What of a mask a file can report, in half the room: an instance has many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports(u16);

impl From<Events> for Reports {
    fn from(events: Events) -> Self {
        Self(events.intersection(Events::REPORTS).bits() as u16)
    }
}

impl From<Reports> for Events {
    fn from(reports: Reports) -> Self {
        Self::from_bits_retain(u32::from(reports.0))
    }
}

impl Events {
    /// The mask as poll(2) takes it. The bits are the same on every architecture that epoll's header serves; what
    /// poll has no bit for is dropped.
    pub fn to_poll(self) -> i16 {
        self.intersection(Self::REPORTS).bits() as i16
    }

    /// What poll(2) reported, without POLLNVAL, which is no state of a file.
    pub fn from_poll(revents: i16) -> Self {
        Self::from_bits_retain(u32::from(revents as u16)).intersection(Self::REPORTS)
    }
}

/// One entry of an epoll_wait, and the argument of an epoll_ctl: `struct epoll_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What is asked for, or reported.
    pub events: Events,
    /// The program's own word, given back bit for bit.
    pub data: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_and_epoll_agree_on_every_bit() {
        for (epoll, poll) in [
            (Events::IN, libc::POLLIN),
            (Events::PRI, libc::POLLPRI),
            (Events::OUT, libc::POLLOUT),
            (Events::ERR, libc::POLLERR),
            (Events::HUP, libc::POLLHUP),
            (Events::RDNORM, libc::POLLRDNORM),
            (Events::RDBAND, libc::POLLRDBAND),
            (Events::WRNORM, libc::POLLWRNORM),
            (Events::WRBAND, libc::POLLWRBAND),
            (Events::RDHUP, libc::POLLRDHUP),
        ] {
            assert_eq!(epoll.to_poll(), poll);
            assert_eq!(Events::from_poll(poll), epoll);
        }
        assert_eq!(Events::from_poll(libc::POLLNVAL), Events::empty());
        assert_eq!(Events::MODES.to_poll(), 0);
    }
}
