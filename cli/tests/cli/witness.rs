//! Who makes epoll calls that the library does not see is named, under denial and on demand.

use crate::common::{Fixture, text};

/// Makes raw epoll calls, two of a kind, and looks whether it has a child.
const RAW: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __x86_64__
static long raw(long number, long argument)
{
    long answer;
    __asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(argument) : "rcx", "r11", "memory");
    return answer;
}
#else
static long raw(long number, long argument)
{
    long answer = syscall(number, argument);
    return answer < 0 ? -errno : answer;
}
#endif
int main(void)
{
    int denied = raw(SYS_epoll_create1, 0) == -ENOSYS && raw(SYS_epoll_create1, 0) == -ENOSYS;
    denied = denied && raw(SYS_epoll_pwait, -1) == -ENOSYS;
    int childless = wait(NULL) < 0 && errno == ECHILD;
    printf(denied && childless ? "denied\n" : "denied %d, childless %d\n", denied, childless);
    return 7;
}
"#;

/// The lines on standard error that are about epoll calls.
fn named(error: &str) -> Vec<&str> {
    error.lines().filter(|line| line.contains("ENOSYS") && !line.contains("preloading")).collect()
}

#[test]
fn inline_calls_are_named_once_for_each_function() {
    let Some(fixture) = Fixture::new() else { return };
    let program = fixture.program("inliner", RAW, &[]).unwrap();
    // That the output ends shows that nobody is left who could write to it.
    let output = fixture.run(&["-v".as_ref(), "--deny-kernel-epoll".as_ref(), program.as_os_str()]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{error}");
    assert_eq!(text(&output.stdout), "denied\n");
    let named = named(&error);
    assert_eq!(named.len(), 2, "{error}");
    for (line, call) in named.iter().zip(["epoll_create1", "epoll_pwait"]) {
        for word in ["uepoll: inliner (", call, "inline"] {
            assert!(line.contains(word), "no {word:?} in {line}");
        }
    }
}

#[test]
fn children_without_the_library_are_named() {
    let Some(fixture) = Fixture::new() else { return };
    let Some(program) = fixture.program("static", RAW, &["-static"]) else { return };
    let script = format!("{0}; {0}; exit 3", program.display());
    let output = fixture.run(&["-v", "--deny-kernel-epoll", "--", "sh", "-c", &script]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert_eq!(text(&output.stdout), "denied\ndenied\n");
    let named = named(&error);
    assert_eq!(named.len(), 4, "{error}");
    assert!(named.iter().all(|line| line.contains("uepoll: static (")), "{error}");
    assert!(named.iter().all(|line| line.contains("not loaded")), "{error}");
}

#[test]
fn without_verbose_nothing_is_said() {
    let Some(fixture) = Fixture::new() else { return };
    let program = fixture.program("inliner", RAW, &[]).unwrap();
    let output = fixture.run(&["--deny-kernel-epoll".as_ref(), program.as_os_str()]);
    assert_eq!(text(&output.stdout), "denied\n");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn what_cannot_be_named_is_said_to_be_so() {
    let Some(fixture) = Fixture::new() else { return };
    let program = fixture.program("inliner", RAW, &[]).unwrap();
    let (uepoll, program) = (env!("CARGO_BIN_EXE_uepoll"), program.to_str().unwrap());
    let denied = ["-v", "--deny-kernel-epoll", "--"];
    // The kernel lets a process have one filter of this sort.
    let output = fixture.run(&[&denied[..], &[uepoll, "run"], &denied, &[program]].concat());
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{error}");
    assert_eq!(text(&output.stdout), "denied\n");
    assert!(error.contains("uepoll: raw epoll calls will not be named: "), "{error}");
}
