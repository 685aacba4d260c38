//! `--deny-kernel-epoll`: a seccomp filter under which every epoll system call answers ENOSYS.
//!
//! The filter outlives exec and is inherited by every child, so a program that works under it cannot have used the
//! kernel's epoll. It stands on system calls only: io_uring has an operation that changes an epoll, but no operation
//! that makes one, and without one there is nothing to change.

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use seccompiler::{BpfProgram, sock_filter};

use crate::failure::Failure;

/// A calling convention of the kernel and its epoll numbers.
struct Convention {
    /// AUDIT_ARCH_*, as seccomp reports it.
    arch: u32,
    /// Bits of the system call number that select the call.
    mask: u32,
    /// All numbers that are epoll's.
    epoll: &'static [u32],
}

/// Every convention that a process of the supported machines can use, the 32-bit ones included: a 32-bit child of the
/// program is denied too, and is not killed as it would be by a filter that knows a single convention.
const CONVENTIONS: [Convention; 4] = [
    // x86-64; x32 shares its arch and sets bit 30. create, ctl_old, wait_old, wait, ctl, pwait, create1, pwait2.
    Convention {
        arch: 0xc000_003e,
        mask: !0x4000_0000,
        epoll: &[213, 214, 215, 232, 233, 281, 291, 441],
    },
    // i386: create, ctl, wait, pwait, create1, pwait2.
    Convention { arch: 0x4000_0003, mask: !0, epoll: &[254, 255, 256, 319, 329, 441] },
    // aarch64: create1, ctl, pwait, pwait2; it never had create and wait.
    Convention { arch: 0xc000_00b7, mask: !0, epoll: &[20, 21, 22, 441] },
    // arm (EABI): create, ctl, wait, pwait, create1, pwait2.
    Convention { arch: 0x4000_0028, mask: !0, epoll: &[250, 251, 252, 346, 357, 441] },
];

/// Offset of the number in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
/// Offset of the convention in the kernel's `struct seccomp_data`.
const ARCH: u32 = 4;

/// Denies the kernel's epoll to this process and to all that it starts, for good.
///
/// Sets no_new_privs, without which the kernel lets only root install a filter.
pub fn deny() -> Result<(), Failure> {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Err(Failure::own("--deny-kernel-epoll does not know this machine's system calls"));
    }
    seccompiler::apply_filter(&filter()).map_err(|error| {
        Failure::own(format!(
            "the kernel did not take the seccomp filter of --deny-kernel-epoll: {error}"
        ))
    })
}

/// The filter: per convention, a list of comparisons. It reads nothing but convention and number, so the kernel caches
/// its answer for the calls that it allows.
fn filter() -> BpfProgram {
    let denied = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let mut program = vec![load(ARCH)];
    for convention in &CONVENTIONS {
        let mut part = vec![load(NUMBER), and(convention.mask)];
        for &number in convention.epoll {
            part.extend([skip_unless_equal(number, 1), answer(denied)]);
        }
        part.push(answer(libc::SECCOMP_RET_ALLOW));
        let length = u8::try_from(part.len()).expect("the tables above are short");
        program.push(skip_unless_equal(convention.arch, length));
        program.extend(part);
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program
}

/// Loads a word of `struct seccomp_data`.
fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0)
}

/// Keeps the bits of the mask.
fn and(mask: u32) -> sock_filter {
    instruction(BPF_ALU | BPF_AND | BPF_K, mask, 0)
}

/// Goes on with the next instruction if equal, else skips so many.
fn skip_unless_equal(value: u32, skipped: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, value, skipped)
}

/// Ends with this answer.
fn answer(action: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, action, 0)
}

fn instruction(code: u32, k: u32, jf: u8) -> sock_filter {
    let code = u16::try_from(code).expect("BPF codes have 16 bits");
    sock_filter { code, jt: 0, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    /// Runs the filter as the kernel does.
    fn verdict(arch: u32, number: u32) -> u32 {
        let program = filter();
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match u32::from(step.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    value = if step.k == ARCH { arch } else { number };
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => value &= step.k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => {
                    let skipped = if value == step.k { step.jt } else { step.jf };
                    at += usize::from(skipped);
                }
                code if code == BPF_RET | BPF_K => return step.k,
                code => panic!("code {code} is not used"),
            }
        }
    }

    #[test]
    fn exactly_the_epoll_calls_are_denied() {
        for convention in &CONVENTIONS {
            for number in 0..600 {
                let expected = if convention.epoll.contains(&number) { ENOSYS } else { ALLOW };
                assert_eq!(
                    verdict(convention.arch, number),
                    expected,
                    "call {number} of {:x}",
                    convention.arch
                );
            }
        }
    }

    #[test]
    fn x32_is_denied_and_an_unknown_convention_is_let_through() {
        assert_eq!(verdict(0xc000_003e, 0x4000_0000 | 291), ENOSYS);
        assert_eq!(verdict(0xc000_003e, 0x4000_0000 | 290), ALLOW);
        assert_eq!(verdict(0xc000_00f3, 20), ALLOW);
    }

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn this_machines_numbers_are_the_headers() {
        #[cfg(target_arch = "x86_64")]
        let (convention, numbers) = (
            &CONVENTIONS[0],
            vec![
                libc::SYS_epoll_create,
                libc::SYS_epoll_ctl_old,
                libc::SYS_epoll_wait_old,
                libc::SYS_epoll_wait,
                libc::SYS_epoll_ctl,
                libc::SYS_epoll_pwait,
                libc::SYS_epoll_create1,
                libc::SYS_epoll_pwait2,
            ],
        );
        #[cfg(target_arch = "aarch64")]
        let (convention, numbers) = (
            &CONVENTIONS[2],
            vec![
                libc::SYS_epoll_create1,
                libc::SYS_epoll_ctl,
                libc::SYS_epoll_pwait,
                libc::SYS_epoll_pwait2,
            ],
        );
        let listed: Vec<_> = convention.epoll.iter().map(|&n| i64::from(n)).collect();
        assert_eq!(listed, numbers);
    }
}
