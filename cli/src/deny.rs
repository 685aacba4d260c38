//! `--deny-kernel-epoll`: a seccomp filter under which every epoll system call answers ENOSYS.
//!
//! The filter outlives exec and is inherited by every child, so a program that works under it cannot have used the
//! kernel's epoll. It stands on system calls only: io_uring has an operation that changes an epoll, but no operation
//! that makes one, and without one there is nothing to change.

use std::path::Path;

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use seccompiler::{BpfProgram, sock_filter};

use crate::failure::Failure;
use crate::listener;
use crate::witness::Witness;

/// A calling convention of the kernel and its epoll numbers.
struct Convention {
    /// AUDIT_ARCH_*, as seccomp reports it.
    arch: u32,
    /// Bits of the system call number that select the call.
    mask: u32,
    /// All numbers that are epoll's, with their names.
    epoll: &'static [(u32, &'static str)],
}

/// Every convention that a process of the supported machines can use, the 32-bit ones included: a 32-bit child of the
/// program is denied too, and is not killed as it would be by a filter that knows a single convention.
const CONVENTIONS: [Convention; 4] = [
    // x86-64; x32 shares its arch and sets bit 30.
    Convention {
        arch: 0xc000_003e,
        mask: !0x4000_0000,
        epoll: &[
            (213, "epoll_create"),
            (214, "epoll_ctl_old"),
            (215, "epoll_wait_old"),
            (232, "epoll_wait"),
            (233, "epoll_ctl"),
            (281, "epoll_pwait"),
            (291, "epoll_create1"),
            (441, "epoll_pwait2"),
        ],
    },
    // i386.
    Convention {
        arch: 0x4000_0003,
        mask: !0,
        epoll: &[
            (254, "epoll_create"),
            (255, "epoll_ctl"),
            (256, "epoll_wait"),
            (319, "epoll_pwait"),
            (329, "epoll_create1"),
            (441, "epoll_pwait2"),
        ],
    },
    // aarch64 never had create and wait.
    Convention {
        arch: 0xc000_00b7,
        mask: !0,
        epoll: &[
            (20, "epoll_create1"),
            (21, "epoll_ctl"),
            (22, "epoll_pwait"),
            (441, "epoll_pwait2"),
        ],
    },
    // arm (EABI).
    Convention {
        arch: 0x4000_0028,
        mask: !0,
        epoll: &[
            (250, "epoll_create"),
            (251, "epoll_ctl"),
            (252, "epoll_wait"),
            (346, "epoll_pwait"),
            (357, "epoll_create1"),
            (441, "epoll_pwait2"),
        ],
    },
];

/// Offset of the number in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
/// Offset of the convention in the kernel's `struct seccomp_data`.
const ARCH: u32 = 4;

/// Denies the kernel's epoll to this process and to all that it starts, for good.
///
/// Sets no_new_privs, without which the kernel lets only root install a filter.
pub fn deny() -> Result<(), Failure> {
    check_machine()?;
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    seccompiler::apply_filter(&filter(enosys)).map_err(|error| {
        Failure::own(format!(
            "the kernel did not take the seccomp filter of --deny-kernel-epoll: {error}"
        ))
    })
}

/// The same, and has the witness name who makes such calls.
///
/// # Errors
/// Why they cannot be named; nothing is denied then.
pub fn deny_and_name(library: &Path) -> Result<(), String> {
    check_machine().map_err(|failure| failure.sentence)?;
    // Before the filter, which it must not be under.
    let witness = Witness::start(library).map_err(|error| error.to_string())?;
    rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())?;
    let listener = listener::install(&filter(libc::SECCOMP_RET_USER_NOTIF))
        .map_err(|error| error.to_string())?;
    // Without it the kernel answers ENOSYS all the same.
    witness.watch(&listener).map_err(|error| error.to_string())
}

fn check_machine() -> Result<(), Failure> {
    if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Ok(());
    }
    Err(Failure::own("--deny-kernel-epoll does not know this machine's system calls"))
}

/// An epoll call's name, by its convention (AUDIT_ARCH_*) and number.
pub fn name(arch: u32, number: u32) -> &'static str {
    let convention = CONVENTIONS.iter().find(|convention| convention.arch == arch);
    let known = convention.and_then(|convention| {
        convention.epoll.iter().find(|(known, _)| *known == number & convention.mask)
    });
    known.map_or("an epoll function", |(_, name)| name)
}

/// The filter: per convention, a list of comparisons, which give epoll's calls this answer. It reads nothing but convention
/// and number, so the kernel caches its answer for the calls that it allows.
fn filter(denied: u32) -> BpfProgram {
    let mut program = vec![load(ARCH)];
    for convention in &CONVENTIONS {
        let mut part = vec![load(NUMBER), and(convention.mask)];
        for &(number, _) in convention.epoll {
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
        let program = filter(ENOSYS);
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
                let is_epoll = convention.epoll.iter().any(|&(epoll, _)| epoll == number);
                let expected = if is_epoll { ENOSYS } else { ALLOW };
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
    fn calls_are_named_by_their_convention() {
        assert_eq!(name(0xc000_003e, 0x4000_0000 | 291), "epoll_create1");
        assert_eq!(name(0x4000_0003, 254), "epoll_create");
        assert_eq!(name(0, 254), "an epoll function");
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
                (libc::SYS_epoll_create, "epoll_create"),
                (libc::SYS_epoll_ctl_old, "epoll_ctl_old"),
                (libc::SYS_epoll_wait_old, "epoll_wait_old"),
                (libc::SYS_epoll_wait, "epoll_wait"),
                (libc::SYS_epoll_ctl, "epoll_ctl"),
                (libc::SYS_epoll_pwait, "epoll_pwait"),
                (libc::SYS_epoll_create1, "epoll_create1"),
                (libc::SYS_epoll_pwait2, "epoll_pwait2"),
            ],
        );
        #[cfg(target_arch = "aarch64")]
        let (convention, numbers) = (
            &CONVENTIONS[2],
            vec![
                (libc::SYS_epoll_create1, "epoll_create1"),
                (libc::SYS_epoll_ctl, "epoll_ctl"),
                (libc::SYS_epoll_pwait, "epoll_pwait"),
                (libc::SYS_epoll_pwait2, "epoll_pwait2"),
            ],
        );
        let listed: Vec<_> =
            convention.epoll.iter().map(|&(number, name)| (i64::from(number), name)).collect();
        assert_eq!(listed, numbers);
    }
}
