//! Park against event: an item goes from the hot set to a watcher thread and back, and what happens to it meanwhile is
//! neither lost nor keeps a closed file open. Under the models two items make a crowd (park.rs, patience.rs).

use shuttle::thread;

use crate::help::*;

/// An instance of `count` items, of which none but the last ones have stirred for a while: they are parked, or about to be.
fn idle(count: usize, events: Events) -> (Program, i32, Vec<(i32, FileRef)>) {
    let program = Program::new();
    let epfd = program.epoll();
    let pipes: Vec<_> = (0..count).map(|_| program.watched(epfd, events)).collect();
    let (bell, file) = program.watched(epfd, LEVEL);
    for _ in 0..3 {
        program.write(bell, file);
        assert_eq!(program.wait(epfd, 4, Time::Ever), Ok(vec![bell as u64]));
        program.read(bell);
    }
    (program, epfd, pipes)
}

/// A parked item is written to while the leader sleeps.
#[test]
fn event_of_a_parked_one() {
    check(|| {
        let (program, epfd, pipes) = idle(2, EDGE);
        let waiter = thread::spawn(move || program.wait(epfd, 1, Time::Ever));
        let (fd, file) = pipes[0];
        program.write(fd, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![fd as u64]));
        program.end(epfd);
    });
}

/// The same by a writer that no hook sees: the watcher alone tells.
#[test]
fn event_from_outside() {
    check(|| {
        let (program, epfd, pipes) = idle(2, EDGE);
        let waiter = thread::spawn(move || program.wait(epfd, 1, Time::Ever));
        let (fd, file) = pipes[1];
        program::write(file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![fd as u64]));
        program.end(epfd);
    });
}

/// A parked item's file is closed, without EPOLL_CTL_DEL, while the leader sleeps and another item stirs.
#[test]
fn close_of_a_parked_one() {
    check(|| {
        let (program, epfd, pipes) = idle(3, LEVEL);
        let waiter = thread::spawn(move || program.wait(epfd, 1, Time::Ever));
        let (fd, file) = pipes[1];
        let writer = thread::spawn(move || program.write(fd, file));
        program.close(pipes[0].0);
        program.close(pipes[2].0);
        writer.join().unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(vec![fd as u64]));
        program.end(epfd);
    });
}

/// The same while polls are refused, so that watchers give back all that they have.
#[test]
fn close_while_polls_are_refused() {
    for refused in 1..4 {
        check(move || {
            let (program, epfd, pipes) = idle(3, LEVEL);
            program::refuse_polls(refused, 2);
            let (bell, file) = pipes[1];
            let waiter = thread::spawn(move || {
                loop {
                    match program.wait(epfd, 1, Time::Ever) {
                        Ok(words) => return words,
                        Err(error) => assert_eq!(error, uepoll::Errno::ENOMEM),
                    }
                }
            });
            program.close(pipes[0].0);
            program.close(pipes[2].0);
            program.write(bell, file);
            assert_eq!(waiter.join().unwrap(), vec![bell as u64]);
            program.end(epfd);
        });
    }
}

/// An item is fetched, reported, read and parked again, and closed at some point of that.
#[test]
fn close_of_a_fetched_one() {
    check(|| {
        let (program, epfd, pipes) = idle(3, EDGE);
        let (fd, file) = pipes[0];
        let closer = thread::spawn(move || {
            program.write(fd, file);
            program.close(fd);
        });
        let (other, file) = pipes[1];
        for _ in 0..3 {
            program.write(other, file);
            while !program.wait(epfd, 1, Time::Ever).unwrap().contains(&(other as u64)) {}
            program.read(other);
        }
        closer.join().unwrap();
        program.close(pipes[2].0);
        program.end(epfd);
    });
}

/// An item that was fetched is removed, and its file closed, before its watcher has read that it was.
#[test]
fn removal_of_a_fetched_one() {
    check(|| {
        let (program, epfd, pipes) = idle(3, EDGE);
        let (fd, file) = pipes[0];
        program.write(fd, file);
        assert_eq!(program.wait(epfd, 1, Time::Ever), Ok(vec![fd as u64]));
        program.delete(epfd, fd);
        program.close(fd);
        program.end(epfd);
    });
}
