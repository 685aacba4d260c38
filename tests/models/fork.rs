//! Fork against every lock: the forking thread takes all of them before, so in the child nothing is half done, and nobody
//! waits for a thread that is not there. The parent goes on as if nothing had been.
//!
//! A fork's child is a schedule in which from then on only the thread that forked goes on.

use std::cell::Cell;

use shuttle::Runner;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::thread;
use uepoll::fdtable::Signs;
use uepoll::files::Kind;

use crate::help::*;

// All threads of a model run on the one of its test, and tests beside each other.
std::thread_local! {
    /// The thread that goes on alone.
    static CHILD: Cell<Option<TaskId>> = const { Cell::new(None) };
    static IS_OVER: Cell<bool> = const { Cell::new(false) };
}

struct Forking<S>(S);

impl<S: Scheduler> Scheduler for Forking<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        CHILD.set(None);
        IS_OVER.set(false);
        self.0.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let Some(child) = CHILD.get() else {
            return self.0.next_task(runnable, current, is_yielding);
        };
        if IS_OVER.get() {
            return None;
        }
        let there = runnable.iter().any(|task| task.id() == child);
        assert!(there, "the child waits for a thread that is not there");
        Some(child)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Runs a model whose main thread may call [`become_child`].
fn check_forking(model: impl Fn() + Send + Sync + Clone + 'static) {
    let each = schedules().div_ceil(2);
    Runner::new(Forking(RandomScheduler::new(each)), config()).run(model.clone());
    Runner::new(Forking(PctScheduler::new(4, each)), config()).run(model);
}

fn become_child(life: impl FnOnce()) {
    program::fork(|| CHILD.set(Some(TaskId::from(program::me()))));
    life();
    IS_OVER.set(true);
    thread::yield_now();
}

/// Threads that have, or want, each of the locks: registry, nesting, an instance's, a watcher's letters.
fn busy(program: Program, epfd: i32) -> Vec<thread::JoinHandle<()>> {
    let (inner, (fd, _)) = (program.epoll(), program.pipe());
    vec![
        thread::spawn(move || {
            let _ = program.wait(epfd, 1, Time::Some).unwrap();
        }),
        thread::spawn(move || {
            program.add(epfd, fd, LEVEL, 1);
            program.delete(epfd, fd);
            program.close(fd);
        }),
        thread::spawn(move || {
            program.add(epfd, inner, LEVEL, 2);
            let _ = program.wait(epfd, 1, Time::None).unwrap();
            program.delete(epfd, inner);
            program.close(inner);
        }),
    ]
}

fn crowd() -> (Program, i32, i32, FileRef) {
    let program = Program::new();
    let epfd = program.epoll();
    for _ in 0..2 {
        program.watched(epfd, LEVEL);
    }
    let (fd, file) = program.watched(epfd, LEVEL);
    for _ in 0..2 {
        program.write(fd, file);
        let _ = program.wait(epfd, 4, Time::Ever).unwrap();
        program.read(fd);
    }
    (program, epfd, fd, file)
}

#[test]
fn child() {
    check_forking(|| {
        let (program, epfd, fd, file) = crowd();
        let _others = busy(program, epfd);
        program.engine.before_fork();
        become_child(|| {
            program.engine.after_fork_in_child();
            program.read(fd);
            let _ = program.wait(epfd, 4, Time::None).unwrap();
            let (new, _) = program.pipe();
            program.add(epfd, new, LEVEL, 3);
            program.write(fd, file);
            assert!(program.wait(epfd, 4, Time::Ever).unwrap().contains(&(fd as u64)));
            program.close(new);
            program.close(fd);
            let _ = program.wait(epfd, 4, Time::None).unwrap();
            let other = program.epoll();
            program.add(other, epfd, LEVEL, 4);
            program.close(epfd);
            program.close(other);
        });
    });
}

#[test]
fn parent() {
    check(|| {
        let (program, epfd, fd, file) = crowd();
        let others = busy(program, epfd);
        program.engine.before_fork();
        program.engine.after_fork_in_parent();
        program.write(fd, file);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(program.wait(epfd, 4, Time::Ever).unwrap().contains(&(fd as u64)));
        program.end(epfd);
    });
}

/// A thread that is not in the child was putting a number on its instance's stack: what is noticed of it later still counts.
#[test]
fn notice_on_its_way() {
    check_forking(|| {
        let program = Program::new();
        let epfd = program.epoll();
        let bell = uepoll::sys::eventfd(0).unwrap();
        program.table.opened(bell, Kind::Eventfd);
        program.add(epfd, bell, Events::OUT | Events::ET, 1);
        assert_eq!(program.wait(epfd, 1, Time::Ever), Ok(vec![1]));
        thread::spawn(move || program.engine.sign(bell, Signs::FILLED));
        program.engine.before_fork();
        become_child(|| {
            program.engine.after_fork_in_child();
            let _ = program.wait(epfd, 1, Time::None).unwrap();
            program.engine.sign(bell, Signs::FILLED);
            assert_eq!(program.wait(epfd, 1, Time::None), Ok(vec![1]));
        });
    });
}
