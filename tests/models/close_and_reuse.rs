//! Close and reuse against delivery: a number is closed and is another file's, while a look at the first one is on its way.
//! Nothing of the first is told in the second's name, nor after close has returned; the second's events are not lost.

use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::thread;
use uepoll::Event;

use crate::help::*;

#[test]
fn reuse() {
    for events in [LEVEL, EDGE, ONCE] {
        check(move || {
            let program = Program::new();
            let epfd = program.epoll();
            let (fd, old) = program.watched(epfd, events);
            let is_closed: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
            let is_written: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
            let writer = thread::spawn(move || program::write(old));
            let waiter = thread::spawn(move || {
                loop {
                    let was_closed = is_closed.load(Ordering::SeqCst);
                    let words = program.wait(epfd, 4, Time::Ever).unwrap();
                    assert!(!was_closed || words == [1000], "told of a closed file");
                    if words.contains(&1000) {
                        assert!(is_written.load(Ordering::SeqCst), "told of another file");
                        return;
                    }
                    // Else the level of the first file is told again and again, and the others may never have a turn.
                    thread::yield_now();
                }
            });
            program.close(fd);
            is_closed.store(true, Ordering::SeqCst);
            let (again, new) = (fd, program.pipe_at(fd));
            program.add(epfd, again, events, 1000);
            is_written.store(true, Ordering::SeqCst);
            program.write(again, new);
            waiter.join().unwrap();
            writer.join().unwrap();
            program.close(again);
            program.end(epfd);
        });
    }
}

/// The instance itself is closed and its number another instance's.
#[test]
fn instance() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (fd, file) = program.watched(epfd, LEVEL);
        let waiter = thread::spawn(move || program.wait(epfd, 4, Time::Some));
        program.close(epfd);
        let again = program.epoll();
        program.add(again, fd, LEVEL, 2000);
        program.write(fd, file);
        assert_eq!(program.wait(again, 4, Time::Ever), Ok(vec![2000]));
        let _ = waiter.join().unwrap();
        program.close(fd);
        program.end(again);
    });
}

/// A number with a duplicate is closed, and then the duplicate, while the set is away with the leader: nothing of them stays
/// in it. A leader that polls a closed number never sleeps again, for which the steps do not suffice.
#[test]
fn duplicate() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (fd, _) = program.watched(epfd, LEVEL);
        let (other, file) = program.watched(epfd, ONCE);
        let (third, _) = program.pipe();
        let twin = program.duplicate(fd);
        let waiter = thread::spawn(move || program.wait(epfd, 4, Time::Ever));
        let adder = thread::spawn(move || program.add(epfd, third, LEVEL, 1));
        program.close(fd);
        program.close(twin);
        adder.join().unwrap();
        program.delete(epfd, third);
        program.write(other, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![other as u64]));
        // No number of a closed file is polled now.
        program::refuse_closed_numbers();
        assert_eq!(program.wait(epfd, 4, Time::None), Ok(vec![]));
        assert_eq!(program.wait(epfd, 4, Time::None), Ok(vec![]));
        program.end(epfd);
    });
}

/// A number is closed while it is being added: whatever EPOLL_CTL_ADD says, nothing of it stays.
#[test]
fn added_meanwhile() {
    for mask in [LEVEL, EDGE] {
        check(move || {
            let program = Program::new();
            let epfd = program.epoll();
            // Duplicates are looked for, where there ever was one.
            program.duplicate(program.pipe().0);
            let (fd, _) = program.pipe();
            let adder = thread::spawn(move || {
                let event = Event { events: mask, data: 1 };
                let _ = program.engine.ctl(epfd, libc::EPOLL_CTL_ADD, fd, Some(event));
            });
            program.close(fd);
            adder.join().unwrap();
            // The first look may find it closed; no second one polls its number.
            assert_eq!(program.wait(epfd, 4, Time::None), Ok(vec![]));
            program::refuse_closed_numbers();
            assert_eq!(program.wait(epfd, 4, Time::None), Ok(vec![]));
            program.end(epfd);
        });
    }
}
