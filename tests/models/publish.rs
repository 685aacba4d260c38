//! Publish against the last event: what is said to an instance while its leader looks for the last time before it sleeps.

use shuttle::thread;
use uepoll::FdTable;
use uepoll::notice::Notices;

use crate::help::*;

/// A number that is pushed is taken after the end of all pushes that were on their way then, and nothing stays behind.
/// Exhaustive, up to the bound.
#[test]
fn notices() {
    check_all(|| {
        let table: &'static FdTable = Box::leak(Box::new(FdTable::new()));
        let notices: &'static Notices = Box::leak(Box::default());
        let pusher = thread::spawn(move || {
            notices.push(table, 5);
            notices.push(table, 6);
        });
        notices.push(table, 7);
        let mut taken: Vec<_> = notices.take(table).collect();
        assert!(taken.contains(&7));
        notices.push(table, 5);
        pusher.join().unwrap();
        taken.extend(notices.take(table));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken, [5, 6, 7]);
        assert!(notices.is_empty());
        assert!((5..8).all(|fd| !table.get(fd).unwrap().is_noticed()));
    });
}

/// A file that is ready is added or armed anew while somebody goes to sleep.
#[test]
fn add_and_modify() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (fd, file) = program.watched(epfd, ONCE);
        program.write(fd, file);
        assert_eq!(program.wait(epfd, 1, Time::Ever), Ok(vec![fd as u64]));
        let (other, file) = program.pipe();
        program.write(other, file);
        let waiters = [0, 1].map(|_| thread::spawn(move || program.wait(epfd, 1, Time::Ever)));
        program.modify(epfd, fd, ONCE);
        program.add(epfd, other, ONCE, other as u64);
        let mut told: Vec<_> =
            waiters.into_iter().map(|waiter| waiter.join().unwrap().unwrap()[0]).collect();
        told.sort_unstable();
        assert_eq!(told, [fd as u64, other as u64]);
        program.end(epfd);
    });
}

/// Somebody else reads to the end while the reader of the events goes to sleep again: the next write is an edge.
#[test]
fn drained_by_another() {
    check(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let (fd, file) = program.watched(epfd, EDGE);
        program.write(fd, file);
        assert_eq!(program.wait(epfd, 1, Time::Ever), Ok(vec![fd as u64]));
        let waiter = thread::spawn(move || program.wait(epfd, 1, Time::Ever));
        program.read(fd);
        program.write(fd, file);
        assert_eq!(waiter.join().unwrap(), Ok(vec![fd as u64]));
        program.end(epfd);
    });
}
