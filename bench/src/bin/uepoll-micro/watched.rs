//! Descriptors to watch, and what makes them readable.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys::{self, Epoll};
use crate::timing::expect;

#[derive(Clone, Copy)]
pub enum Kind {
    Eventfd,
    SocketPair,
}

/// A descriptor to watch, and how to make it readable.
pub struct Watched {
    pub fd: OwnedFd,
    /// The other end, for socket pairs.
    peer: Option<OwnedFd>,
}

impl Watched {
    pub fn new(kind: Kind) -> io::Result<Watched> {
        Ok(match kind {
            Kind::Eventfd => Watched { fd: sys::eventfd(0)?, peer: None },
            Kind::SocketPair => {
                let (fd, peer) = sys::socket_pair()?;
                Watched { fd, peer: Some(peer) }
            }
        })
    }

    /// `count` of them, each registered for `events` under its index.
    pub fn crowd(epoll: &Epoll, kind: Kind, count: usize, events: i32) -> io::Result<Vec<Watched>> {
        let mut crowd = Vec::with_capacity(count);
        for index in 0..count {
            let watched = Watched::new(kind)?;
            epoll.add(&watched.fd, events, index)?;
            crowd.push(watched);
        }
        Ok(crowd)
    }

    pub fn stir(&self) -> io::Result<()> {
        match &self.peer {
            Some(peer) => sys::write(peer, b"x"),
            None => sys::write(&self.fd, &1_u64.to_ne_bytes()),
        }
    }

    pub fn drain(&self) -> io::Result<()> {
        let expected = if self.peer.is_some() { 1 } else { 8 };
        expect("bytes read", sys::read(&self.fd, &mut [0; 8])?, expected)
    }
}
