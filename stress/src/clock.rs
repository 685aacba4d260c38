//! Clocks that jump while somebody waits: a wait lasts as long as it is told, and what is due is told.
//!
//! Two ways, of which neither touches the machine's clock. By libfaketime, which is preloaded as well and gives libc's
//! clocks what a file says (`FAKETIME_TIMESTAMP_FILE`): they jump by days, back and forth, and stand still. By a time
//! namespace, where the kernel's own monotonic clock differs: a child of fork goes on with an instance that it inherited,
//! and finds another time.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::faults::Faults;
use crate::sys::{self, Answer, End, Fd, IN, NO_EVENT};

/// How long waits are to last.
const MILLIS: u64 = 300;
/// A machine that is busy may be late, but not by this.
const LATE: Duration = Duration::from_secs(60);
/// What the file says in turn, as libfaketime(1) reads it.
const JUMPS: [&str; 5] = ["+3d", "-3d", "2030-01-01 00:00:00", "+0", "2001-01-01 00:00:00"];
const STILL: &str = "2030-01-01 00:00:00";
const HOUR: u64 = 3600;

/// Of the kernel: libc's may jump.
fn kernels_now() -> Duration {
    sys::kernels_clock(libc::CLOCK_MONOTONIC)
}

pub fn run(faults: &Faults) -> Answer<String> {
    let faked = match std::env::var_os("FAKETIME_TIMESTAMP_FILE") {
        Some(file) => faked(&file, faults)?,
        None => "libfaketime: SKIPPED, for FAKETIME_TIMESTAMP_FILE is not set".into(),
    };
    let moved = match moved(faults)? {
        Some(jumps) => format!("time namespace: {jumps} jumps"),
        None => "time namespace: SKIPPED, for it needs privilege".into(),
    };
    Ok(format!("{faked}; {moved}"))
}

fn faked(file: &std::ffi::OsStr, faults: &Faults) -> Answer<String> {
    let stopping = AtomicBool::new(false);
    let jumps = thread::scope(|scope| {
        // No time of libc's in this file: it is what jumps.
        let jumping = scope.spawn(|| {
            let (mut jumps, mut seen) = (0, [false; 2]);
            while !stopping.load(Ordering::SeqCst) {
                if !set(file, JUMPS[jumps % JUMPS.len()]) {
                    break;
                }
                jumps += 1;
                sys::sleep(Duration::from_millis(70));
                for (clock, seen) in
                    [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC].iter().zip(&mut seen)
                {
                    *seen |=
                        sys::clock(*clock).abs_diff(sys::kernels_clock(*clock)).as_secs() > HOUR;
                }
            }
            (jumps, seen)
        });
        waits(faults)?;
        news(faults)?;
        stopping.store(true, Ordering::SeqCst);
        let (jumps, seen) = jumping.join().unwrap_or_default();
        if seen != [true; 2] {
            faults.add(format!("libc's clocks (real, monotonic) jumped: {seen:?}"));
        }
        Answer::Ok(jumps)
    })?;
    if !set(file, STILL) {
        faults.add("the file with the time cannot be written".into());
    }
    sys::sleep(Duration::from_millis(500));
    let before = sys::clock(libc::CLOCK_MONOTONIC);
    waits(faults)?;
    news(faults)?;
    if sys::clock(libc::CLOCK_MONOTONIC) != before {
        faults.add("the clock that was to stand still went on".into());
    }
    Ok(format!("libfaketime: {jumps} jumps, and a clock that stands still"))
}

/// Written anew beside it: whoever reads it finds a whole line.
fn set(file: &std::ffi::OsStr, time: &str) -> bool {
    let next = format!("{}.next", file.display());
    fs::write(&next, format!("{time}\n")).and_then(|()| fs::rename(&next, file)).is_ok()
}

/// Waits of which nothing is told last as long as they should.
fn waits(faults: &Faults) -> Answer<()> {
    let (epoll, fd) = (sys::epoll()?, sys::eventfd()?);
    sys::add(epoll, fd, IN | sys::ET, 0)?;
    let time = Duration::from_millis(MILLIS);
    let ways: [(&str, &dyn Fn() -> Answer<usize>); 3] = [
        ("epoll_wait", &|| sys::wait(epoll, &mut [NO_EVENT], MILLIS as i32)),
        ("epoll_pwait", &|| {
            sys::wait_without(epoll, &mut [NO_EVENT], MILLIS as i32, libc::SIGUSR1)
        }),
        ("epoll_pwait2", &|| sys::wait_for(epoll, &mut [NO_EVENT], time)),
    ];
    // Beside a thread that leads, another one follows: it has a time limit of its own.
    for (name, wait) in ways {
        thread::scope(|scope| {
            let leader = scope.spawn(|| sys::wait(epoll, &mut [NO_EVENT], MILLIS as i32 + 100));
            let start = kernels_now();
            let found = wait();
            let took = kernels_now().saturating_sub(start);
            // The kernel counts in its own ticks: a millisecond less is no jump.
            if found != Ok(0) || took + Duration::from_millis(1) < time || took > LATE {
                faults.add(format!("{name} of {MILLIS} ms gave {found:?} after {took:?}"));
            }
            drop(leader.join());
        });
    }
    sys::close(epoll)?;
    sys::close(fd)?;
    Ok(())
}

/// What others write, and nobody reads, is an edge each time: the library has to look for it by itself, at intervals.
fn news(faults: &Faults) -> Answer<()> {
    let (epoll, [read_end, write_end]) = (sys::epoll()?, sys::pipe()?);
    sys::add(epoll, read_end, IN | sys::ET, 7)?;
    let stop = sys::eventfd()?;
    sys::add(epoll, stop, IN, 8)?;
    let (order, turn) = sys::pipe().map(|[read_end, write_end]| (read_end, write_end))?;
    let writer = sys::fork(|| write_in_turn(order, write_end))?;
    thread::scope(|scope| {
        // Two at once: the library then knows that threads share the instance, and leaves what one was just told of
        // alone for a while.
        let beside = scope.spawn(|| sys::wait(epoll, &mut [NO_EVENT; 1], 200));
        sys::sleep(Duration::from_millis(50));
        sys::wait(epoll, &mut [NO_EVENT; 1], 200)?;
        drop(beside.join());
        for round in 0..20 {
            sys::write(turn, b"w")?;
            let mut events = [NO_EVENT; 2];
            let found = sys::wait(epoll, &mut events, LATE.as_millis() as i32)?;
            let told = events[0].u64;
            if found != 1 || told != 7 {
                faults.add(format!("write {round} of another process was told by {found} events"));
                break;
            }
        }
        Answer::Ok(())
    })?;
    sys::close(turn)?;
    let end = sys::wait_for_child(writer)?;
    if end != End::Exit(0) {
        faults.add(format!("the process that writes ended by {end:?}"));
    }
    for fd in [epoll, read_end, write_end, stop, order] {
        sys::close(fd)?;
    }
    Ok(())
}

/// Another process: one byte for each that it is sent.
fn write_in_turn(order: Fd, write_end: Fd) -> u8 {
    let _ = sys::die_with_parent();
    sys::alarm(120);
    // What the parent holds open would keep the end of `order` from being seen.
    let keep = [order, write_end];
    for fd in 3..64 {
        if !keep.contains(&fd) {
            let _ = sys::close(fd);
        }
    }
    loop {
        match sys::read(order, &mut [0]) {
            Ok(0) => return 0,
            Ok(_) => {
                // Not at once, so that the parent sleeps.
                sys::sleep(Duration::from_millis(10));
                if sys::write(write_end, b"b").is_err() {
                    return 1;
                }
            }
            Err(libc::EAGAIN) => sys::sleep(Duration::from_millis(1)),
            Err(_) => return 2,
        }
    }
}

/// Children in time namespaces; `None`: not allowed here.
fn moved(faults: &Faults) -> Answer<Option<usize>> {
    let uptime = kernels_now().as_secs();
    // Not before the clock's beginning.
    let back = i64::try_from(uptime / 2).unwrap_or(0);
    let jumps = [3 * 24 * HOUR as i64, -back];
    for jump in jumps {
        // In a process of its own: the namespace of children can be changed once.
        let child = sys::fork(|| in_namespace(jump))?;
        match sys::wait_for_child(child)? {
            End::Exit(0) => {}
            End::Exit(77) => return Ok(None),
            end => faults.add(format!("a clock that jumps by {jump} s at fork: ended by {end:?}")),
        }
    }
    Ok(Some(jumps.len()))
}

fn in_namespace(jump: i64) -> u8 {
    let _ = sys::die_with_parent();
    sys::alarm(120);
    let faults = Faults::default();
    let answer = (|| {
        // Used before the jump: whatever it remembers is of the time before.
        let (epoll, [read_end, write_end]) = (sys::epoll()?, sys::pipe()?);
        sys::add(epoll, read_end, IN | sys::ET, 7)?;
        sys::write(write_end, b"b")?;
        let mut events = [NO_EVENT; 2];
        thread::scope(|scope| {
            // Two at once; one of them takes the edge.
            let beside = scope.spawn(|| sys::wait(epoll, &mut [NO_EVENT; 1], 200));
            let _ = sys::wait(epoll, &mut [NO_EVENT; 1], 200);
            drop(beside.join());
        });
        sys::unshare_clocks()?;
        let offsets = format!("monotonic {jump} 0\nboottime {jump} 0\n");
        if fs::write("/proc/self/timens_offsets", offsets).is_err() {
            return Err(libc::EPERM);
        }
        let before = kernels_now();
        let child = sys::fork(|| {
            sys::alarm(120);
            let jumped = kernels_now().abs_diff(before).as_secs();
            if jumped < HOUR / 2 {
                return 3;
            }
            let faults = Faults::default();
            sys::write(write_end, b"b").ok();
            let found = sys::wait(epoll, &mut events, LATE.as_millis() as i32);
            if found != Ok(1) {
                faults.add(format!("an inherited instance told {found:?}"));
            }
            if let Err(error) = waits(&faults).and_then(|()| news(&faults)) {
                faults.add(format!("after the jump: error {error}"));
            }
            faults.print();
            u8::from(!faults.is_empty())
        })?;
        sys::wait_for_child(child)
    })();
    faults.print();
    match answer {
        Ok(End::Exit(status)) => status as u8,
        Err(libc::EPERM | libc::EINVAL | libc::ENOENT) => 77,
        _ => 4,
    }
}
