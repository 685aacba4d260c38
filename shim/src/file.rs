//! The epoll descriptor as a file: ioctl(2).

use std::sync::atomic::Ordering;

use libc::{c_int, c_ulong};
use uepoll::fdtable::Flags;
use uepoll::instance::BusyPoll;
use uepoll::{Errno, sys};

use crate::errno::{answer, fail};
use crate::hook::{hooks, real};
use crate::{TABLE, engine, memory};

/// EPIOCSPARAMS and EPIOCGPARAMS of <linux/eventpoll.h>.
const SET_PARAMETERS: c_ulong = 0x4008_8a01;
const GET_PARAMETERS: c_ulong = 0x8008_8a02;

/// The kernel's NAPI_POLL_WEIGHT: a larger budget wants CAP_NET_ADMIN.
const LARGEST_BUDGET: u16 = 64;
const CAP_NET_ADMIN: u32 = 12;

hooks! {
    /// ioctl(2). Variadic in C; a third argument of any kind comes in the same register.
    fn ioctl(fd: c_int, request: c_ulong, arg: usize) -> c_int {
        let word = TABLE.word(fd);
        if word.is(Flags::OURS) {
            return fail(libc::EBADF);
        }
        if !word.is(Flags::EPOLL) {
            if request == libc::FIONCLEX {
                TABLE.inheritable(fd);
            }
            return real!(ioctl(fd, request, arg));
        }
        match request & 0xffff_ffff {
            SET_PARAMETERS | GET_PARAMETERS => answer(|| parameters(fd, request, arg).map(|()| 0)),
            // What the kernel answers for every file.
            libc::FIOCLEX | libc::FIONCLEX | libc::FIONBIO | libc::FIOASYNC | libc::FIOQSIZE => {
                real!(ioctl(fd, request, arg))
            }
            _ => fail(libc::EINVAL),
        }
    }
}

/// The parameters of busy polling: checked, remembered and given back. There is no device to poll.
fn parameters(epfd: c_int, request: c_ulong, arg: usize) -> Result<(), Errno> {
    let held = engine().and_then(|engine| engine.instance(epfd)).ok_or(Errno::EBADF)?;
    let pointer = arg as *mut BusyPoll;
    if request & 0xffff_ffff == GET_PARAMETERS {
        let now = BusyPoll::unpack(held.busy_poll.load(Ordering::SeqCst));
        return memory::copy_out(pointer, &[now]);
    }
    if !memory::readable(pointer, size_of::<BusyPoll>()) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: readable, of any alignment; every pattern of bits is one.
    let new = unsafe { pointer.read_unaligned() };
    if new.pad != 0 || new.usecs > i32::MAX as u32 || new.prefer > 1 {
        return Err(Errno::EINVAL);
    }
    if new.budget > LARGEST_BUDGET && !sys::has_capability(CAP_NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    held.busy_poll.store(new.pack(), Ordering::SeqCst);
    Ok(())
}
