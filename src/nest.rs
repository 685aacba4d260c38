//! Instances in instances: which of them may be.
//!
//! The kernel refuses circles and chains that are too deep, and bounds how many instances one file may wake through
//! chains of each length, so that a wake-up cannot grow without bound. Here nothing is woken through chains, but
//! programs see the same limits.

use std::os::fd::RawFd;

use syscalls::Errno;

use crate::engine::Engine;
use crate::files::Kind;
use crate::instance::Instance;
use crate::sync::atomic::Ordering;
use crate::sys::Result;

/// How deep instances may be nested: the kernel's EP_MAX_NESTS.
pub const MAX_NESTS: usize = 4;

/// By the length of the chain above it: how many instances that stand in no other one a file may wake. One that watches
/// the file itself is not bounded.
const PATHS: [usize; MAX_NESTS + 1] = [usize::MAX, 500, 100, 50, 10];

impl Engine {
    /// Adds `fd` to an instance by `add`, if that makes no circle and no chain is too deep or too wide.
    ///
    /// # Errors
    /// ELOOP, EINVAL, and those of `add`.
    pub(crate) fn nest(
        &'static self,
        instance: &Instance,
        fd: RawFd,
        kind: Kind,
        add: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let nested = instance.numbers_watched();
        if kind != Kind::Epoll && !nested {
            return add();
        }
        let _nesting = self.nesting.lock();
        let inner = self.table.get(fd).and_then(|entry| entry.slot_of_epoll());
        if let Some(inner) = inner {
            let below = self.depth_below(inner, instance.slot, 0);
            let deep = below + 1 + self.depth_above(instance.slot, 0);
            if below > MAX_NESTS || deep > MAX_NESTS {
                return Err(Errno::ELOOP);
            }
        }
        if let Some(inner) = inner.and_then(|slot| self.instance_in(slot)) {
            inner.is_nested.store(true, Ordering::SeqCst);
            let mut locked = inner.inner.lock();
            // An item whose number was closed, and that goes on by a duplicate, is to be marked by that one.
            locked.take_notices(self, inner);
            locked.become_nested(self.table);
        }
        add()?;
        let too_wide = match inner {
            Some(inner) => self.files_below(inner, 0).iter().any(|&fd| self.is_too_wide(fd)),
            None => self.is_too_wide(fd),
        };
        if too_wide {
            self.change_back(instance, fd);
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn depth_below(&self, slot: u16, into: u16, depth: usize) -> usize {
        if slot == into || depth > MAX_NESTS {
            return MAX_NESTS + 1;
        }
        let below = |&child: &u16| self.depth_below(child, into, depth + 1) + 1;
        self.children(slot).iter().map(below).max().unwrap_or(0)
    }

    fn depth_above(&self, slot: u16, depth: usize) -> usize {
        if depth > MAX_NESTS {
            return depth;
        }
        let above = |parent| self.depth_above(parent, depth + 1) + 1;
        self.parents(slot).into_iter().map(above).max().unwrap_or(0)
    }

    /// The instances among an instance's items.
    fn children(&self, slot: u16) -> Vec<u16> {
        self.instance_in(slot)
            .map(|instance| instance.inner.lock().nested.iter().map(|child| child.slot).collect())
            .unwrap_or_default()
    }

    /// The instances that an instance is in, each as often as it is.
    fn parents(&self, slot: u16) -> Vec<u16> {
        let mut parents = Vec::new();
        // Most were never put into another one: all instances need not be gone through to see that.
        if !self.instance_in(slot).is_some_and(Instance::numbers_watched) {
            return parents;
        }
        for parent in self.registered_instances() {
            let times = self.children(parent.slot).iter().filter(|&&child| child == slot).count();
            parents.extend(std::iter::repeat_n(parent.slot, times));
        }
        parents
    }

    /// The files in an instance, and in those in it.
    fn files_below(&self, slot: u16, depth: usize) -> Vec<RawFd> {
        let Some(instance) = self.instance_in(slot) else { return Vec::new() };
        let mut files: Vec<RawFd> = {
            let inner = instance.inner.lock();
            inner.watches().map(|(_, watch)| watch.fd).collect()
        };
        if depth <= MAX_NESTS {
            for child in self.children(slot) {
                files.extend(self.files_below(child, depth + 1));
            }
        }
        files
    }

    /// Whether a file has more ways up than are allowed.
    fn is_too_wide(&self, fd: RawFd) -> bool {
        let file = self.table.word(fd).file();
        let mut ways = [0; MAX_NESTS + 1];
        let mut watching = Vec::new();
        for instance in self.registered_instances() {
            if instance.inner.lock().interest.find(fd, file).is_some() {
                watching.push(instance.slot);
            }
        }
        watching.into_iter().any(|slot| !self.count_ways(slot, 0, &mut ways))
    }

    /// Counts the ways up from an instance. False: there are too many.
    fn count_ways(&self, slot: u16, depth: usize, ways: &mut [usize; MAX_NESTS + 1]) -> bool {
        if depth > MAX_NESTS {
            return false;
        }
        let parents = self.parents(slot);
        if parents.is_empty() {
            ways[depth] += 1;
            return ways[depth] <= PATHS[depth];
        }
        parents.into_iter().all(|parent| self.count_ways(parent, depth + 1, ways))
    }
}
