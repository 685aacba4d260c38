//! A few active descriptors among many silent ones.

use std::io;

use crate::sys::{self, EPOLLET, EPOLLIN, Epoll, Events};
use crate::timing::{Timing, expect, nanoseconds};
use crate::watched::{Kind, Watched};

#[derive(Clone, Copy)]
pub struct Activity {
    /// How many become readable at a time.
    pub active: usize,
    /// Others each time, at random; else always the same.
    pub moving: bool,
    pub edge: bool,
}

/// Nanoseconds an event: `active` of `size` become readable, all of them are reported and read.
pub fn among(timing: Timing, activity: Activity, size: usize) -> io::Result<f64> {
    let Activity { active, moving, edge } = activity;
    let epoll = Epoll::new()?;
    let mask = if edge { EPOLLIN | EPOLLET } else { EPOLLIN };
    let crowd = Watched::crowd(&epoll, Kind::SocketPair, size, mask)?;
    let mut events = Events::with_room(active);
    // The same places on both sides of a pair.
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // One active descriptor in each stretch: spread over the interest list, and never one twice at a time.
    let stretch = size / active;
    let round = nanoseconds(timing, || {
        for number in 0..active {
            let place = if moving { random.below(stretch) } else { 0 };
            crowd[number * stretch + place].stir()?;
        }
        let mut seen = 0;
        while seen < active {
            let count = epoll.wait(&mut events, -1)?;
            for index in 0..count {
                let watched = &crowd[events.data(index)];
                watched.drain()?;
                if edge {
                    // As programs with edges do: until there is nothing more.
                    let more = sys::read(&watched.fd, &mut [0; 8]).err().map(|error| error.kind());
                    let empty = usize::from(more == Some(io::ErrorKind::WouldBlock));
                    expect("ends of input", empty, 1)?;
                }
            }
            seen += count;
        }
        Ok(())
    })?;
    Ok(round / active as f64)
}

/// Marsaglia's xorshift: next to nothing of the time, and good enough to move about.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
