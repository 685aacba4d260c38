//! What each thread is doing, so that a hang can be named.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Beats of the one who looks after the others. They are counted and no clock is read: while the process is stopped
/// nothing goes on, and nothing hangs.
pub const BEAT: Duration = Duration::from_millis(20);
/// What takes longer hangs: some 60 seconds, for busy machines.
pub const LIMIT: u64 = 3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Act {
    Nothing,
    Wait,
    Control,
    Read,
    Write,
    Renew,
    Fork,
    Child,
    Over,
}

impl Act {
    const ALL: [Self; 9] = [
        Self::Nothing,
        Self::Wait,
        Self::Control,
        Self::Read,
        Self::Write,
        Self::Renew,
        Self::Fork,
        Self::Child,
        Self::Over,
    ];
}

/// One thread.
#[derive(Default)]
pub struct Worker {
    act: AtomicU64,
    /// Of which instance, descriptor or process.
    subject: AtomicI64,
    channel: AtomicI64,
    /// How many things it did.
    count: AtomicU64,
    pub thread: AtomicU64,
    pub is_paused: AtomicBool,
}

impl Worker {
    pub fn does(&self, act: Act, subject: i64, channel: i64) {
        self.subject.store(subject, Ordering::Relaxed);
        self.channel.store(channel, Ordering::Relaxed);
        self.act.store(act as u64, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn act(&self) -> Act {
        Act::ALL[self.act.load(Ordering::Relaxed) as usize]
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// In words.
    pub fn tell(&self) -> String {
        let subject = self.subject.load(Ordering::Relaxed);
        let channel = self.channel.load(Ordering::Relaxed);
        let of_channel = if channel < 0 { String::new() } else { format!(", channel {channel}") };
        match self.act() {
            Act::Nothing => "between two calls".into(),
            Act::Wait => format!("in epoll_wait of instance {subject}"),
            Act::Control => format!("in epoll_ctl of instance {subject}{of_channel}"),
            Act::Read => format!("in read of descriptor {subject}{of_channel}"),
            Act::Write => format!("in write to descriptor {subject}{of_channel}"),
            Act::Renew => format!("closing and making descriptor {subject}{of_channel}"),
            Act::Fork => "in fork".into(),
            Act::Child => format!("waiting for child {subject}"),
            Act::Over => "at its end".into(),
        }
    }
}
