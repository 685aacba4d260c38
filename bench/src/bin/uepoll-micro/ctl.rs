//! epoll_ctl, each operation alone.

use std::io;
use std::time::{Duration, Instant};

use crate::sys::{EPOLLIN, Epoll};
use crate::timing::{Timing, nanoseconds};
use crate::watched::{Kind, Watched};

/// As many as a busy server has; also enough that the two looks at the clock cost nothing.
const SIZE: usize = 1000;

pub fn add(timing: Timing) -> io::Result<f64> {
    Ok(add_and_delete(timing)?.0)
}

pub fn delete(timing: Timing) -> io::Result<f64> {
    Ok(add_and_delete(timing)?.1)
}

/// Nanoseconds for one ADD, and for one DEL.
fn add_and_delete(timing: Timing) -> io::Result<(f64, f64)> {
    let epoll = Epoll::new()?;
    let crowd: Vec<Watched> =
        (0..SIZE).map(|_| Watched::new(Kind::SocketPair)).collect::<io::Result<_>>()?;
    let (mut adding, mut deleting, mut count) = (Duration::ZERO, Duration::ZERO, 0);
    let begin = Instant::now();
    while begin.elapsed() < timing.warm + timing.measure {
        let measured = begin.elapsed() >= timing.warm;
        let first = Instant::now();
        for (index, watched) in crowd.iter().enumerate() {
            epoll.add(&watched.fd, EPOLLIN, index)?;
        }
        let second = Instant::now();
        for watched in &crowd {
            epoll.delete(&watched.fd)?;
        }
        if measured {
            adding += second - first;
            deleting += second.elapsed();
            count += SIZE;
        }
    }
    let each = |time: Duration| time.as_nanos() as f64 / count.max(1) as f64;
    Ok((each(adding), each(deleting)))
}

pub fn modify(timing: Timing) -> io::Result<f64> {
    let epoll = Epoll::new()?;
    let crowd = Watched::crowd(&epoll, Kind::SocketPair, SIZE, EPOLLIN)?;
    let mut next = 0;
    nanoseconds(timing, || {
        next += 1;
        epoll.modify(&crowd[next % SIZE].fd, EPOLLIN, next)
    })
}
