//! Collect against deliver: what poll(2) has told is of the past when it is delivered. No event is lost, and none is
//! delivered twice under one-shot.

use shuttle::thread;
use uepoll::fdtable::Signs;
use uepoll::files::Kind;

use crate::help::*;

/// Reads until all is there; waits whenever there is nothing more.
fn read_all(program: Program, epfd: i32, fd: i32, bytes: u64) {
    let mut got = 0;
    while got < bytes {
        assert_eq!(program.wait(epfd, 4, Time::Ever), Ok(vec![fd as u64]));
        loop {
            let more = program.read(fd);
            got += more;
            if more == 0 {
                break;
            }
        }
    }
    assert_eq!(got, bytes);
}

/// Edge-triggered: every byte that comes while the last event is on its way is told, once it was read to the end.
#[test]
fn edge_after_edge() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (fd, file) = program.watched(epfd, EDGE);
        let writer = thread::spawn(move || (0..3).for_each(|_| program.write(fd, file)));
        read_all(program, epfd, fd, 3);
        writer.join().unwrap();
        program.end(epfd);
    });
}

/// The same by a writer that no hook sees.
#[test]
fn edges_from_outside() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (fd, file) = program.watched(epfd, EDGE);
        let writer = thread::spawn(move || (0..3).for_each(|_| program::write(file)));
        read_all(program, epfd, fd, 3);
        writer.join().unwrap();
        program.end(epfd);
    });
}

/// One write is one event, though the report may be older than its sign.
#[test]
fn one_write_one_edge() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (fd, file) = program.watched(epfd, EDGE);
        let writer = thread::spawn(move || program.write(fd, file));
        assert_eq!(program.wait(epfd, 4, Time::Ever), Ok(vec![fd as u64]));
        writer.join().unwrap();
        assert_eq!(program.wait(epfd, 4, Time::None), Ok(vec![]), "told twice");
        program.end(epfd);
    });
}

/// The same of a level that an edge-triggered instance is told of: the outer one is told once.
#[test]
fn one_write_one_edge_of_the_outer() {
    check(|| {
        let program = Program::new();
        let (inner, outer) = (program.epoll(), program.epoll());
        let (fd, file) = program.watched(inner, Events::IN);
        program.add(outer, inner, EDGE, 1);
        let writer = thread::spawn(move || program.write(fd, file));
        assert_eq!(program.wait(outer, 4, Time::Ever), Ok(vec![1]));
        writer.join().unwrap();
        assert_eq!(program.wait(outer, 4, Time::None), Ok(vec![]), "told twice");
        program.close(inner);
        program.end(outer);
    });
}

/// Two that wait, and one one-shot item: each arming is told once.
#[test]
fn one_shot() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (fd, file) = program.watched(epfd, ONCE);
        let waiters =
            [0, 1].map(|_| thread::spawn(move || program.wait(epfd, 4, Time::Some).unwrap().len()));
        program.write(fd, file);
        let told: usize = waiters.into_iter().map(|waiter| waiter.join().unwrap()).sum();
        assert!(told <= 1, "told twice");
        let rest = program.wait(epfd, 4, Time::None).unwrap().len();
        assert_eq!(told + rest, 1);
        program.modify(epfd, fd, ONCE);
        assert_eq!(program.wait(epfd, 4, Time::Ever), Ok(vec![fd as u64]));
        program.end(epfd);
    });
}

/// A call that is on its way during a look, and ends without having woken anybody: the next one's sign is its own.
#[test]
fn call_without_a_sign() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let bell = uepoll::sys::eventfd(0).unwrap();
        program.table.opened(bell, Kind::Eventfd);
        program.add(epfd, bell, Events::OUT | Events::ET, 1);
        let home = program.table.home(bell).unwrap();
        let caller = thread::spawn(move || {
            home.call_begins();
            home.call_ends(Signs::empty());
        });
        assert_eq!(program.wait(epfd, 1, Time::Ever), Ok(vec![1]));
        caller.join().unwrap();
        assert_eq!(program.wait(epfd, 1, Time::None), Ok(vec![]));
        home.call_begins();
        program.engine.sign_of_call(bell, Signs::WOKEN_OUT);
        assert_eq!(program.wait(epfd, 1, Time::None), Ok(vec![1]));
        program.end(epfd);
    });
}
