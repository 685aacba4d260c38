//! By which a test says what is to be refused (`uepoll::faults`). Not part of the library that is installed.

use libc::c_int;
use uepoll::faults::{self, Resource};

/// `int64_t uepoll_faults(int resource, int64_t refused, int for_good)`: from now on the `refused`-th time (0: never) that
/// memory (0), a descriptor (1), a thread (2) or a poll (3) is asked for, there is none; `for_good`: nor from then on.
/// Gives how often it was asked for since the last call; -1: there is no such resource.
#[unsafe(no_mangle)]
pub extern "C" fn uepoll_faults(resource: c_int, refused: i64, for_good: c_int) -> i64 {
    let resource = match resource {
        0 => Resource::Memory,
        1 => Resource::Descriptor,
        2 => Resource::Thread,
        3 => Resource::Poll,
        _ => return -1,
    };
    faults::set(resource, refused.max(0) as u64, for_good != 0) as i64
}
