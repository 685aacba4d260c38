//! Leader hand-over against time-out and signal: whoever stops leading has somebody else lead, and who is woken to lead at
//! the moment in which it gives up leads once more to hand over. An event that nobody is woken for is a deadlock.

use shuttle::thread;
use uepoll::Errno;

use crate::help::*;

/// Each of two events wakes one of two that wait for ever; others come and go.
fn two_events(among: impl Fn(Program, i32) -> Vec<thread::JoinHandle<()>>) {
    let program = Program::new();
    let epfd = program.epoll();
    let pipes = [0, 1].map(|_| program.watched(epfd, ONCE));
    let others = among(program, epfd);
    let waiters = [0, 1].map(|_| {
        thread::spawn(move || {
            loop {
                match program.wait(epfd, 1, Time::Ever) {
                    Ok(words) => return words[0],
                    Err(error) => assert_eq!(error, Errno::EINTR),
                }
            }
        })
    });
    for (fd, file) in pipes {
        program.write(fd, file);
    }
    let mut told: Vec<u64> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, pipes.map(|(fd, _)| fd as u64));
    others.into_iter().for_each(|other| other.join().unwrap());
    program.end(epfd);
}

/// Gives an event back that was meant for somebody else.
fn give_back(program: Program, epfd: i32, words: &[u64]) {
    words.iter().for_each(|&word| program.modify(epfd, word as i32, ONCE));
}

#[test]
fn alone() {
    check(|| two_events(|_, _| vec![]));
}

#[test]
fn against_time_out() {
    check(|| {
        two_events(|program, epfd| {
            vec![thread::spawn(move || {
                let words = program.wait(epfd, 1, Time::Some).unwrap();
                give_back(program, epfd, &words);
            })]
        });
    });
}

#[test]
fn against_signal() {
    check(|| {
        two_events(|program, epfd| {
            let (says, said) = std::sync::mpsc::channel();
            let other = thread::spawn(move || {
                says.send(program::me()).unwrap();
                match program.wait(epfd, 1, Time::Ever) {
                    Ok(words) => give_back(program, epfd, &words),
                    Err(error) => assert_eq!(error, Errno::EINTR),
                }
            });
            // It has said so before anybody can wait for it: the handle tells when.
            let signaller = thread::spawn(move || {
                let thread = loop {
                    match said.try_recv() {
                        Ok(thread) => break thread,
                        Err(_) => thread::yield_now(),
                    }
                };
                program::signal(thread);
            });
            vec![other, signaller]
        });
    });
}

/// One that does not sleep looks beside the leader, and takes nothing away from it.
#[test]
fn against_a_look() {
    check(|| {
        two_events(|program, epfd| {
            vec![thread::spawn(move || {
                let words = program.wait(epfd, 1, Time::None).unwrap();
                give_back(program, epfd, &words);
            })]
        });
    });
}
