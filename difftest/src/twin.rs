//! One logical instance in two engines: the library's and the kernel's.

use crate::mask::Mask;
use crate::script::Action;
use crate::sys::{self, Answer, Event, Fd};

/// Where the kernel's numbers begin, so that they take none from the script.
pub const KERNEL_NUMBERS: Fd = 600;

/// An instance, whatever numbers it has.
pub type Instance = u32;

/// An instance, twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    pub ours: Fd,
    pub kernel: Fd,
    pub id: Instance,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Kernel,
}

impl Twin {
    /// Makes both.
    pub fn new(id: Instance) -> Answer<Self> {
        let ours = sys::ours::create()?;
        let low = sys::kernel::create()?;
        let kernel = sys::kernel::dup_above(low, KERNEL_NUMBERS)?;
        sys::kernel::close(low)?;
        Ok(Self { ours, kernel, id })
    }

    /// Whether the two are what they should be: two different engines.
    pub fn differs(self) -> bool {
        is_kernels(self.kernel) && !is_kernels(self.ours)
    }

    /// Another number for the same instance.
    pub fn dup(self) -> Answer<Self> {
        let ours = sys::dup(self.ours)?;
        let kernel = sys::kernel::dup_above(self.kernel, KERNEL_NUMBERS)?;
        Ok(Self { ours, kernel, id: self.id })
    }

    /// A file that has the same number for both.
    pub fn of_file(number: Fd) -> Self {
        Self { ours: number, kernel: number, id: 0 }
    }

    /// epoll_ctl on both; the target has a number for each. Gives what ours and the kernel's answered.
    pub fn ctl(self, action: Action, target: Self, mask: Mask, data: u64) -> [Answer; 2] {
        let op = number_of(action);
        let event = Event { events: mask.0, u64: data };
        [
            sys::ours::ctl(self.ours, op, target.ours, event),
            sys::kernel::ctl(self.kernel, op, target.kernel, event),
        ]
    }

    /// epoll_wait on one side. Gives data and mask of each event.
    pub fn wait(self, side: Side, max: usize, millis: i32) -> Answer<Vec<(u64, Mask)>> {
        let mut events = vec![Event { events: 0, u64: 0 }; max];
        let count = match side {
            Side::Ours => sys::ours::wait(self.ours, &mut events, millis)?,
            Side::Kernel => sys::kernel::wait(self.kernel, &mut events, millis)?,
        };
        Ok(events[..count].iter().map(|event| (event.u64, Mask(event.events))).collect())
    }

    /// poll(2) on both.
    pub fn poll(self) -> [Answer<i16>; 2] {
        const ALL: i16 = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDNORM;
        [sys::ours::poll(self.ours, ALL), sys::kernel::poll(self.kernel, ALL)]
    }

    /// select(2) on both.
    pub fn select(self) -> [Answer; 2] {
        [sys::ours::select(self.ours), sys::kernel::select(self.kernel)]
    }

    /// Closes both; ours is left alone where a script's own close has taken it.
    pub fn close(self) {
        let _ = sys::close(self.ours);
        let _ = sys::kernel::close(self.kernel);
    }
}

/// Whether a descriptor is an instance of the kernel's.
pub fn is_kernels(fd: Fd) -> bool {
    let name = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    name.is_ok_and(|name| name.as_os_str() == "anon_inode:[eventpoll]")
}

/// What epoll_ctl(2) calls an action.
pub fn number_of(action: Action) -> i32 {
    match action {
        Action::Add => libc::EPOLL_CTL_ADD,
        Action::Del => libc::EPOLL_CTL_DEL,
        Action::Mod => libc::EPOLL_CTL_MOD,
        Action::Bad => 7,
    }
}
