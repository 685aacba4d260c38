//! What sockets tell of themselves.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use libc::c_int;
use syscalls::{Sysno, syscall};

use super::{Result, as_fd, close};
use crate::faults::{self, Resource};

/// An option of a socket that is an int.
///
/// # Errors
/// EBADF, ENOTSOCK, ENOPROTOOPT.
pub fn socket_option(fd: RawFd, option: c_int) -> Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: one writable int, and its length.
    unsafe {
        syscall!(Sysno::getsockopt, fd, libc::SOL_SOCKET, option, &raw mut value, &raw mut len)?
    };
    Ok(value)
}

/// Bytes queued for reading (ioctl FIONREAD).
///
/// # Errors
/// EBADF, ENOTTY or EINVAL when the file does not count them.
pub fn bytes_readable(fd: RawFd) -> Result<u32> {
    let mut count: c_int = 0;
    // SAFETY: one writable int.
    unsafe { syscall!(Sysno::ioctl, fd, libc::FIONREAD, &raw mut count)? };
    Ok(count as u32)
}

/// Memory that a socket's receive queue takes (SO_MEMINFO), which grows with each datagram that FIONREAD does not show.
///
/// # Errors
/// EBADF, ENOTSOCK, ENOPROTOOPT.
pub fn receive_memory(fd: RawFd) -> Result<u32> {
    const SO_MEMINFO: c_int = 55;
    let mut info = [0u32; 9];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: nine writable words, and their length.
    unsafe {
        syscall!(
            Sysno::getsockopt,
            fd,
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr(),
            &raw mut len
        )?
    };
    Ok(info[0])
}

/// The state of a TCP socket that is neither connected nor connecting.
pub const TCP_CLOSE: u8 = 7;

/// What the kernel tells of a TCP socket (TCP_INFO).
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    /// Its state (tcpi_state).
    pub state: u8,
    /// Of a listener: the connections that wait to be accepted (tcpi_unacked).
    pub backlog: u32,
    /// Bytes that ever came (tcpi_bytes_received), modulo 2^32; the urgent ones too.
    pub arrivals: u32,
}

/// The same, for that socket.
///
/// # Errors
/// EBADF, ENOTSOCK, ENOPROTOOPT.
pub fn tcp_info(fd: RawFd) -> Result<TcpInfo> {
    // The words of struct tcp_info: eight bytes, 24 words, and the low ones of three long ones.
    const UNACKED: usize = 6;
    const BYTES_RECEIVED: usize = 32;
    let mut info = [0u32; 34];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: 34 writable words, and their length.
    unsafe {
        syscall!(
            Sysno::getsockopt,
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr(),
            &raw mut len
        )?
    };
    Ok(TcpInfo {
        state: info[0].to_ne_bytes()[0],
        backlog: info[UNACKED],
        arrivals: info[BYTES_RECEIVED],
    })
}

/// Whether a TCP socket is neither connected nor connecting.
pub fn is_tcp_closed(fd: RawFd) -> bool {
    tcp_info(fd).is_ok_and(|info| info.state == TCP_CLOSE)
}

/// What a socket has sent that the other end has not taken (ioctl TIOCOUTQ): for a UNIX socket, memory.
///
/// # Errors
/// EBADF, ENOTTY or EINVAL when the file does not count it.
pub fn bytes_unsent(fd: RawFd) -> Result<u32> {
    let mut count: c_int = 0;
    // SAFETY: one writable int.
    unsafe { syscall!(Sysno::ioctl, fd, libc::TIOCOUTQ, &raw mut count)? };
    Ok(count as u32)
}

/// Connections that wait to be accepted on a UNIX listener, by its inode: asked of sock_diag(7). `None` where the
/// kernel does not tell, and for sockets of other families.
pub fn unix_backlog(fd: RawFd, inode: u32) -> Option<u32> {
    if faults::refuses(Resource::Descriptor) {
        return None;
    }
    const NETLINK_SOCK_DIAG: c_int = 4;
    const SOCK_DIAG_BY_FAMILY: u32 = 20;
    const NLM_F_REQUEST: u32 = 1;
    const SHOW_RQLEN: u32 = 0x10;
    const UNIX_DIAG_RQLEN: u32 = 4;
    if socket_option(fd, libc::SO_DOMAIN) != Ok(libc::AF_UNIX) {
        return None;
    }
    // struct nlmsghdr (16 bytes) and struct unix_diag_req (24), as words.
    let request: [u32; 10] = [
        40,
        SOCK_DIAG_BY_FAMILY | NLM_F_REQUEST << 16,
        1,
        0,
        libc::AF_UNIX as u32,
        u32::MAX,
        inode,
        SHOW_RQLEN,
        u32::MAX,
        u32::MAX,
    ];
    let mut answer = [0u32; 64];
    let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let socket = unsafe { syscall!(Sysno::socket, libc::AF_NETLINK, flags, NETLINK_SOCK_DIAG) };
    let socket = socket.map(as_fd).ok()?;
    // SAFETY: 40 readable bytes.
    let sent = unsafe { syscall!(Sysno::write, socket, request.as_ptr(), 40) };
    let got = sent.and_then(|_| {
        // SAFETY: as many writable bytes. The kernel answers at once, if only by an error.
        unsafe { syscall!(Sysno::read, socket, answer.as_mut_ptr(), size_of_val(&answer)) }
    });
    close(socket);
    // struct nlmsghdr and struct unix_diag_msg, 16 bytes each, and attributes.
    let words = got.ok()? / 4;
    if words < 8 || answer[1] & 0xffff != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut at = 8;
    while at + 1 < words {
        let (len, kind) = (answer[at] & 0xffff, answer[at] >> 16);
        if kind == UNIX_DIAG_RQLEN {
            return Some(answer[at + 1]);
        }
        at += (len as usize).div_ceil(4).max(1);
    }
    None
}
