//! Paths under /proc, made without allocation.

use std::ffi::CStr;
use std::os::fd::RawFd;

/// A number's path under `folder`, in `path`.
pub fn proc_self<'a>(folder: &str, fd: RawFd, path: &'a mut [u8; 32]) -> &'a CStr {
    path[..folder.len()].copy_from_slice(folder.as_bytes());
    let mut digits = [0u8; 10];
    let mut value = fd.unsigned_abs();
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    let number = &digits[first..];
    let end = folder.len() + number.len();
    path[folder.len()..end].copy_from_slice(number);
    path[end] = 0;
    CStr::from_bytes_until_nul(&path[..=end]).unwrap_or(c"")
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_written_out() {
        let mut path = [0u8; 32];
        assert_eq!(super::proc_self("/proc/self/fd/", 0, &mut path), c"/proc/self/fd/0");
        assert_eq!(
            super::proc_self("/proc/self/fd/", 1_048_575, &mut path),
            c"/proc/self/fd/1048575"
        );
    }
}
