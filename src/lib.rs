//! epoll in user space, over poll(2): the engine, as a plain library.
//!
//! The interposed functions are in `shim/`; here is nothing of libc's symbols and no global. Read first: `edge.rs`, how
//! an edge is found over poll(2); then `wait.rs`, the way of one event; `sleeper.rs`, how close() gets a file out of
//! somebody's poll.
//!
//! # The house
//!
//! | file | what it knows |
//! |---|---|
//! | [`engine`] | all instances of a process; close, dup and fork |
//! | `ctl` | epoll_ctl: its checks in the kernel's order |
//! | [`instance`] | one instance: its items and its set |
//! | `evidence` | what the hooks noticed and the files say, turned into armed bits |
//! | `deliver` | hits become events: what is delivered |
//! | [`interest`], `slab` | the interest list and the ready list; where items lie |
//! | [`edge`] | when a state is news: pure |
//! | [`wait`] | leader and followers |
//! | `nest` | which instances may be in which |
//! | [`observe`] | looking from outside: poll on an instance, nesting |
//! | [`park`] | watcher threads for idle descriptors |
//! | [`watchers`] | all watcher threads, and how to be without any for a while |
//! | [`patience`] | when a descriptor is idle: pure |
//! | [`sleeper`] | who is in poll(2), waking and ejecting |
//! | [`backend`] | the set that a leader sleeps on: the contract, and poll(2)'s |
//! | [`fdtable`], [`word`], [`sign`], [`notice`] | what the hooks say, without locks |
//! | [`files`] | kinds of files |
//! | [`hidden`] | the library's own descriptors |
//! | [`faults`] | refusals on demand, in tests |
//! | [`sync`] | atomics and threads, real or under a model checker |
//! | [`sys`] | system calls, the lock: all unsafe code |
//!
//! # Lock order
//!
//! One tree; who holds a lock takes only locks below it. Nothing is held while sleeping, or while another instance's
//! lock is taken: instances that are nested are looked at one after the other.
//!
//! ```text
//! Engine::registry       which slots are in use
//! └─ Engine::nesting     instances in instances, while one is added
//!    └─ Instance::inner  items, ready list, set
//!       ├─ Shard::mail   letters to a watcher thread
//!       └─ Watchers::ending  watchers that have ended
//! ```
//!
//! The table of descriptors, the stacks of notices and the sleepers have no locks: hooks use them in signal handlers
//! and between fork and exec.

pub mod backend;
mod ctl;
mod decimal;
mod deliver;
pub mod edge;
pub mod engine;
pub mod events;
mod evidence;
pub mod faults;
pub mod fdtable;
pub mod files;
pub mod habit;
pub mod hidden;
pub mod instance;
pub mod interest;
mod nest;
pub mod notice;
pub mod observe;
pub mod park;
pub mod patience;
pub mod sign;
mod slab;
pub mod sleeper;
pub mod sync;
#[cfg(not(shuttle))]
pub mod sys;
#[cfg(shuttle)]
#[path = "model/sys.rs"]
pub mod sys;
pub mod wait;
pub mod watchers;
pub mod word;

pub use engine::Engine;
pub use events::{Event, Events};
pub use fdtable::FdTable;
pub use syscalls::Errno;
