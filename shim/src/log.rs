//! The environment, and the log. Silent unless asked: never on the program's own stderr.

use std::ffi::{CStr, CString, OsStr};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::panic::PanicHookInfo;

use libc::c_char;

use once_cell::sync::OnceCell;
use uepoll::sys;

/// `UEPOLL_LOG`, with `%p` replaced by the process' id.
static PATH: OnceCell<CString> = OnceCell::new();

unsafe extern "C" {
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// A variable of the environment. Not obeyed where the program has more rights than its caller.
fn variable(name: &CStr) -> Option<&'static OsStr> {
    // SAFETY: a terminated name; secure_getenv gives NULL in a setuid context.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    // SAFETY: where not NULL, a terminated string of the environment.
    (!value.is_null()).then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(value) }.to_bytes()))
}

/// `UEPOLL_MAX_USER_WATCHES`: the limit on watches where the kernel names none.
pub fn max_watches() -> Option<usize> {
    variable(c"UEPOLL_MAX_USER_WATCHES")?.to_str()?.parse().ok()
}

/// Reads the environment.
pub fn start() {
    let template = variable(c"UEPOLL_LOG").and_then(OsStr::to_str).filter(|text| !text.is_empty());
    if let Some(template) = template {
        let path = template.replace("%p", &sys::getpid().to_string());
        if let Ok(path) = CString::new(path) {
            let _ = PATH.set(path);
        }
        line(format_args!("loaded, version {}", env!("CARGO_PKG_VERSION")));
    }
    // A defect of ours must not be printed on the program's stderr.
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo| line(format_args!("defect: {panic}"))));
}

/// Writes one line to the log, if there is one.
pub fn line(text: std::fmt::Arguments) {
    let Some(path) = PATH.get() else { return };
    let mut full = String::new();
    let _ = writeln!(full, "uepoll[{}]: {text}", sys::getpid());
    let _ = sys::append_file(path, full.as_bytes());
}
