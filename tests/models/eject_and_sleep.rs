//! Eject against sleep: close() returns exactly when nobody holds the file.
//!
//! The kernel of the models panics when a number is closed and a poll is inside with its file; a closer that waits for a
//! sleeper that nobody wakes is a deadlock.

use shuttle::thread;

use crate::help::*;

/// The leader sleeps over the file.
#[test]
fn leader() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (closed, _) = program.watched(epfd, LEVEL);
        let (other, file) = program.watched(epfd, EDGE);
        let waiter = thread::spawn(move || program.wait(epfd, 4, Time::Ever));
        program.close(closed);
        program.write(other, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![other as u64]));
    });
}

/// Two closers at once, and a kick for an ADD.
#[test]
fn two_closers() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (one, _) = program.watched(epfd, LEVEL);
        let (two, _) = program.watched(epfd, EDGE);
        let (ready, file) = program.pipe();
        program::write(file);
        let waiter = thread::spawn(move || program.wait(epfd, 4, Time::Ever));
        let closers = [one, two].map(|fd| thread::spawn(move || program.close(fd)));
        program.add(epfd, ready, LEVEL, 1);
        closers.into_iter().for_each(|closer| closer.join().unwrap());
        assert_eq!(waiter.join().unwrap(), Ok(vec![1]));
    });
}

/// Somebody observes: an instance in another one.
#[test]
fn observer() {
    check(|| {
        let program = Program::new();
        let (inner, outer) = (program.epoll(), program.epoll());
        let (closed, _) = program.watched(inner, LEVEL);
        let (other, file) = program.watched(inner, LEVEL);
        program.add(outer, inner, LEVEL, 7);
        let waiter = thread::spawn(move || program.wait(outer, 4, Time::Ever));
        program.close(closed);
        program.write(other, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![7]));
    });
}

/// A closer in a signal handler that interrupted a kick: what the handler waits for must not need the kick.
#[test]
fn handler_within_a_kick() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (one, _) = program.watched(epfd, LEVEL);
        let (two, _) = program.watched(epfd, LEVEL);
        let (other, file) = program.watched(epfd, LEVEL);
        let waiter = thread::spawn(move || program.wait(epfd, 4, Time::Ever));
        program::interrupt(move || program.close(two));
        program.close(one);
        program.write(other, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![other as u64]));
    });
}
