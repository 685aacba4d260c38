//! A load generator of our own, for what wrk and redis-benchmark cannot do: memcached, and requests at a set pace. It
//! sleeps in the kernel's epoll through raw system calls (rustix), in this process, which is never preloaded.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// An answer that takes longer makes the whole measurement void; as wrk has it.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// How far behind its pace the generator may be and still catch up.
const BEHIND: Duration = Duration::from_millis(5);
/// Events of one wait.
const ROOM: usize = 256;

/// What is asked, and when the answer is whole.
#[derive(Clone, Copy)]
pub struct Talk {
    /// The request of this number.
    pub request: fn(u64) -> &'static [u8],
    pub complete: fn(&[u8]) -> bool,
}

pub struct Generator {
    epoll: OwnedFd,
    clients: Vec<Client>,
    talk: Talk,
    sent: u64,
    answered: u64,
    slowest: Duration,
    late: u64,
}

struct Client {
    stream: TcpStream,
    /// Since when it waits for an answer.
    asked: Option<Instant>,
    answer: Vec<u8>,
}

impl Generator {
    /// `connections` are open and have nothing under way.
    pub fn new(connections: Vec<TcpStream>, talk: Talk) -> io::Result<Generator> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut clients = Vec::with_capacity(connections.len());
        for (index, stream) in connections.into_iter().enumerate() {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            clients.push(Client { stream, asked: None, answer: Vec::new() });
        }
        Ok(Generator {
            epoll,
            clients,
            talk,
            sent: 0,
            answered: 0,
            slowest: Duration::ZERO,
            late: 0,
        })
    }

    /// Every client asks again as soon as it has its answer. Returns the number of answers.
    pub fn as_fast_as_possible(&mut self, time: Duration) -> Result<u64, String> {
        let (begin, before) = (Instant::now(), self.answered);
        for index in 0..self.clients.len() {
            self.ask(index).map_err(described)?;
        }
        while begin.elapsed() < time {
            for index in self.answers(Duration::from_millis(100)).map_err(described)? {
                self.ask(index).map_err(described)?;
            }
            if self.answered == before && begin.elapsed() > TIMEOUT {
                break;
            }
        }
        self.finish()?;
        Ok(self.answered - before)
    }

    /// `rate` requests a second, evenly, the clients in turn. Returns the number of answers. Fails when the pace cannot
    /// be held: then something else would be measured.
    pub fn paced(&mut self, rate: f64, time: Duration) -> Result<u64, String> {
        let (begin, before, late_before) = (Instant::now(), self.answered, self.late);
        let planned = (rate * time.as_secs_f64()) as u64;
        let mut due = begin;
        for turn in 0..planned {
            loop {
                let now = Instant::now();
                if due <= now {
                    // Where we were kept from the processor, what is due since is not asked all at once: a burst is
                    // cheaper to answer than a steady trickle.
                    due = due.max(now.checked_sub(BEHIND).unwrap_or(now));
                    break;
                }
                self.answers(due - now).map_err(described)?;
            }
            due += Duration::from_secs_f64(1.0 / rate);
            let index = (turn % self.clients.len() as u64) as usize;
            if self.clients[index].asked.is_none() {
                self.ask(index).map_err(described)?;
            } else {
                self.late += 1;
            }
        }
        self.finish()?;
        let late = self.late - late_before;
        if late * 5 > planned || begin.elapsed() > time * 2 + TIMEOUT {
            return Err(format!(
                "the pace was not held: {late} of {planned} requests had no answer when the next was due, and {} s \
                 became {:.1} s",
                time.as_secs_f64(),
                begin.elapsed().as_secs_f64()
            ));
        }
        Ok(self.answered - before)
    }

    fn ask(&mut self, index: usize) -> io::Result<()> {
        let request = (self.talk.request)(self.sent);
        self.sent += 1;
        let client = &mut self.clients[index];
        client.asked = Some(Instant::now());
        client.stream.write_all(request)
    }

    /// Waits, and takes what has come. Returns the clients whose answer is whole.
    fn answers(&mut self, limit: Duration) -> io::Result<Vec<usize>> {
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let nothing = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [nothing; ROOM];
        let count = match epoll::wait(&self.epoll, &mut events[..], Some(&limit)) {
            Err(rustix::io::Errno::INTR) => 0,
            count => count?,
        };
        let mut whole = Vec::with_capacity(count);
        for event in &events[..count] {
            let index = event.data.u64() as usize;
            let client = &mut self.clients[index];
            let mut buffer = [0; 4096];
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed by the server"));
                }
                Ok(length) => client.answer.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            if (self.talk.complete)(&client.answer) {
                client.answer.clear();
                let asked = client.asked.take();
                self.slowest =
                    self.slowest.max(asked.map_or(Duration::ZERO, |since| since.elapsed()));
                self.answered += 1;
                whole.push(index);
            }
        }
        Ok(whole)
    }

    /// Waits for what is still under way, and judges how long answers took.
    fn finish(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        let waiting =
            |clients: &[Client]| clients.iter().filter(|client| client.asked.is_some()).count();
        while waiting(&self.clients) > 0 && begin.elapsed() < TIMEOUT {
            self.answers(Duration::from_millis(100)).map_err(described)?;
        }
        let lost = waiting(&self.clients);
        if lost > 0 || self.slowest > TIMEOUT {
            return Err(format!(
                "requests timed out: {lost} have no answer, the slowest took {} ms",
                self.slowest.as_millis()
            ));
        }
        Ok(())
    }
}

fn described(error: io::Error) -> String {
    format!("load generator: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    const TALK: Talk = Talk { request: |_| b"ping", complete: |answer| answer == b"pong" };

    /// Connections to a server that answers `answers` times on each, then only listens.
    fn connections(count: usize, answers: usize) -> Vec<TcpStream> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let streams = (0..count)
            .map(|_| {
                let stream = TcpStream::connect(address).unwrap();
                let (mut served, _) = listener.accept().unwrap();
                thread::spawn(move || {
                    let mut buffer = [0; 4];
                    for _ in 0..answers {
                        if served.read_exact(&mut buffer).is_err() {
                            return;
                        }
                        let _ = served.write_all(b"pong");
                    }
                    let _ = served.read_to_end(&mut Vec::new());
                });
                stream
            })
            .collect();
        drop(listener);
        streams
    }

    #[test]
    fn answers_are_counted() {
        let mut generator = Generator::new(connections(3, usize::MAX), TALK).unwrap();
        assert!(generator.as_fast_as_possible(Duration::from_millis(50)).unwrap() >= 3);
        let answered = generator.paced(200.0, Duration::from_millis(100)).unwrap();
        assert_eq!(answered + generator.late, 20);
    }

    #[test]
    fn a_lost_answer_is_a_failure() {
        let mut generator = Generator::new(connections(2, 1), TALK).unwrap();
        let error = generator.as_fast_as_possible(Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("timed out") && error.contains("2 have no answer"), "{error}");
    }
}
