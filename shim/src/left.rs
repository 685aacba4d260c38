//! Calls that are never returned from: a thread is cancelled in read(2), or a handler jumps out of it. What was begun for
//! such a call (`Entry::read_begins`, `Entry::call_begins`) would be under way for ever.
//!
//! pthread_cancel and longjmp both run libc's cleanup handlers of the frames that they leave: those of C's first way to
//! have them, `_pthread_cleanup_push`, whose record lies in the frame itself. They need no unwinding, and cost as much as
//! putting the record into a list and taking it out.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use libc::c_int;

use crate::hook::Real;

type Push = unsafe extern "C" fn(*mut Record, unsafe extern "C" fn(*mut c_void), *mut c_void);
type Pop = unsafe extern "C" fn(*mut Record, c_int);

static PUSH: Real<Push> = Real::new("_pthread_cleanup_push\0");
static POP: Real<Pop> = Real::new("_pthread_cleanup_pop\0");

/// `struct _pthread_cleanup_buffer` of pthread.h: written and read by libc only.
#[repr(C)]
struct Record {
    routine: *mut c_void,
    argument: *mut c_void,
    cancel_type: c_int,
    before: *mut Record,
}

/// What was begun, and how it ends.
struct Begun<B> {
    what: B,
    ends: fn(B),
}

/// Finds libc's functions.
pub fn resolve() {
    PUSH.resolve();
    POP.resolve();
}

/// Makes a call. What was begun for it, if anything, ends by `ends` if the call is left, and by the caller if it returns.
#[inline(never)]
pub fn within<B: Copy, T>(begun: Option<B>, ends: fn(B), call: impl FnOnce() -> T) -> T {
    let (Some(what), Some(push), Some(pop)) = (begun, PUSH.get(), POP.get()) else { return call() };
    let mut begun = Begun { what, ends };
    let mut record = MaybeUninit::<Record>::uninit();
    // SAFETY: both live in this frame, as long as they are in libc's list; it is left by a return, after the call below,
    // or with the record taken out by libc.
    unsafe { push(record.as_mut_ptr(), end::<B>, (&raw mut begun).cast()) };
    let result = call();
    // SAFETY: pushed above, and the last in the list, as frames are left in their order.
    unsafe { pop(record.as_mut_ptr(), 0) };
    result
}

/// What libc calls for a frame that is left.
unsafe extern "C" fn end<B: Copy>(begun: *mut c_void) {
    // SAFETY: what `within` pushed, whose frame is still there.
    let Begun { what, ends } = unsafe { begun.cast::<Begun<B>>().read() };
    ends(what);
}
