//! Eject against sleep: close() returns exactly when nobody holds the file.
//!
//! The kernel of the models panics when a number is closed and a poll is inside with its file; a closer that waits for a
//! sleeper that nobody wakes is a deadlock.

use std::os::fd::RawFd;

use shuttle::thread;
use uepoll::fdtable::Signs;

use crate::help::*;

/// A leader sleeps over two files, of which `close` closes one; then the other one is written to.
fn asleep_over(close: impl Fn(Program, RawFd, RawFd) + Send + Sync + Clone + 'static) {
    check(move || {
        let program = Program::new();
        let epfd = program.epoll();
        let (closed, _) = program.watched(epfd, LEVEL);
        let (other, file) = program.watched(epfd, EDGE);
        let waiter = thread::spawn(move || program.wait(epfd, 4, Time::Ever));
        close(program, epfd, closed);
        program.write(other, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![other as u64]));
        program.end(epfd);
    });
}

/// The same of one who observes: of an instance in another one.
fn observing(close: impl Fn(Program, RawFd, RawFd) + Send + Sync + Clone + 'static) {
    check(move || {
        let program = Program::new();
        let (inner, outer) = (program.epoll(), program.epoll());
        let (closed, _) = program.watched(inner, LEVEL);
        let (other, file) = program.watched(inner, LEVEL);
        program.add(outer, inner, LEVEL, 7);
        let waiter = thread::spawn(move || program.wait(outer, 4, Time::Ever));
        close(program, inner, closed);
        program.write(other, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![7]));
        program.end(outer);
        program.end(inner);
    });
}

fn close(program: Program, _: RawFd, fd: RawFd) {
    program.close(fd);
}

fn remove_and_close(program: Program, epfd: RawFd, fd: RawFd) {
    program.delete(epfd, fd);
    program.close(fd);
}

/// The leader sleeps over the file.
#[test]
fn leader() {
    asleep_over(close);
}

/// The leader sleeps over an item that was removed.
#[test]
fn removed() {
    asleep_over(remove_and_close);
}

/// Somebody observes the file.
#[test]
fn observer() {
    observing(close);
}

/// The same of an item that was removed before.
#[test]
fn observer_of_a_removed_one() {
    observing(remove_and_close);
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
        program.end(epfd);
    });
}

/// The other end is written to at the same time: the writer may be putting the number on the stack when the closer does.
#[test]
fn written_to_meanwhile() {
    for events in [LEVEL, EDGE] {
        check(move || {
            let program = Program::new();
            let epfd = program.epoll();
            let (closed, written) = program.watched(epfd, events);
            let (other, file) = program.watched(epfd, EDGE);
            let writer = thread::spawn(move || program.write(closed, written));
            let waiter = thread::spawn(move || {
                loop {
                    if program.wait(epfd, 4, Time::Ever).unwrap().contains(&(other as u64)) {
                        return;
                    }
                    thread::yield_now();
                }
            });
            program.close(closed);
            program.write(other, file);
            waiter.join().unwrap();
            writer.join().unwrap();
            program.end(epfd);
        });
    }
}

/// A sign of the same file comes at the same time: who gives it may have marked the number, and not put it on the stack yet,
/// and then the closer does not do so either.
#[test]
fn signed_meanwhile() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (closed, _) = program.watched(epfd, EDGE);
        let (other, file) = program.watched(epfd, EDGE);
        let sign = Signs::WOKEN_OUT;
        let signer = thread::spawn(move || program.engine.sign(closed, sign));
        let waiter = thread::spawn(move || program.wait(epfd, 4, Time::Ever));
        program.close(closed);
        program.write(other, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![other as u64]));
        signer.join().unwrap();
        program.end(epfd);
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
        program.end(epfd);
    });
}
