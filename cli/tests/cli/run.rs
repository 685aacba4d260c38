//! What a program finds that `uepoll run` starts, and how the command itself answers.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Stdio;

use crate::common::{Fixture, check_refusal, text};

#[test]
fn the_library_is_put_before_other_preloads() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let other = fixture.program("libother.so", "", &["-shared", "-fPIC"]).unwrap();
    let library = fixture.library.display();
    let show = ["run", "--", "sh", "-c", "echo $LD_PRELOAD"];
    let output = fixture.uepoll().args(show).output().unwrap();
    assert_eq!(text(&output.stdout), format!("{library}\n"));
    assert_eq!(text(&output.stderr), "");
    let output = fixture.uepoll().args(show).env("LD_PRELOAD", &other).output().unwrap();
    assert_eq!(text(&output.stdout), format!("{library}:{}\n", other.display()));
}

#[test]
fn the_library_is_really_loaded() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let output = fixture.run(&["--", "cat", "/proc/self/maps"]);
    assert!(text(&output.stdout).contains("/libempty.so"));
}

#[test]
fn a_relative_library_path_becomes_absolute() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let output = fixture
        .uepoll()
        .args(["run", "--", "sh", "-c", "echo $LD_PRELOAD"])
        .env("UEPOLL_LIB", "libempty.so")
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    assert!(printed.starts_with('/') && printed.ends_with("/libempty.so\n"));
}

#[test]
fn libraries_that_cannot_be_preloaded_are_uepolls_own_failure() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let with = |library: &Path| {
        let mut command = fixture.uepoll();
        command.args(["run", "true"]).env("UEPOLL_LIB", library);
        command.output().unwrap()
    };
    for name in ["with space.so", "with:colon.so"] {
        let path = fixture.path(name);
        std::fs::copy(&fixture.library, &path).unwrap();
        check_refusal(&with(&path), 125, &[name, "LD_PRELOAD is split"]);
    }
    check_refusal(&with(&fixture.path("none.so")), 125, &["UEPOLL_LIB"]);
    let text = fixture.file("text.so", "x", 0o755);
    check_refusal(&with(&text), 125, &["not a shared library"]);
}

#[test]
fn the_library_is_looked_for_beside_the_command() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    std::fs::create_dir_all(fixture.path("bin")).unwrap();
    std::fs::create_dir_all(fixture.path("lib/uepoll")).unwrap();
    let command = fixture.copy_of_uepoll("bin/uepoll");
    let run = || {
        std::process::Command::new(&command)
            .args(["run", "--", "sh", "-c", "echo $LD_PRELOAD"])
            .env_remove("UEPOLL_LIB")
            .env_remove("LD_PRELOAD")
            .output()
            .unwrap()
    };
    check_refusal(&run(), 125, &["libuepoll.so", "UEPOLL_LIB"]);
    // From the last place that is looked at to the first.
    for place in ["lib/uepoll", "lib", "bin"] {
        let library = fixture.path(place).join("libuepoll.so");
        std::fs::copy(&fixture.library, &library).unwrap();
        let found = library.canonicalize().unwrap();
        assert_eq!(text(&run().stdout), format!("{}\n", found.display()));
    }
}

#[test]
fn the_exit_status_is_the_programs() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    for status in [0, 1, 42, 125] {
        let exit = format!("exit {status}");
        let output = fixture.run(&["--", "sh", "-c", &exit]);
        assert_eq!(output.status.code(), Some(status));
    }
    let output = fixture.run(&["--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.signal(), Some(15));
}

#[test]
fn options_after_the_program_are_the_programs() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    for arguments in [&["--", "echo", "-v", "--", "--help"][..], &["echo", "-v", "--", "--help"]] {
        let output = fixture.run(arguments);
        assert_eq!(text(&output.stdout), "-v -- --help\n", "{}", text(&output.stderr));
    }
}

#[test]
fn verbose_says_what_is_done_in_one_line() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let output = fixture.run(&["-v", "--deny-kernel-epoll", "--", "true"]);
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{line}");
    assert_eq!(line.lines().count(), 1);
    for word in ["uepoll: ", "libempty.so", "denied", "/true"] {
        assert!(line.contains(word), "{line}");
    }
    let output = fixture.run(&["-v", "--", "true"]);
    assert!(!text(&output.stderr).contains("denied"));
}

#[test]
fn scripts_and_environment_arrive_unchanged() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let script = fixture.file("script", "#!/usr/bin/env -S sh -e\necho $0 $1 $WORD\n", 0o755);
    let output = fixture
        .uepoll()
        .args(["run", "--"])
        .arg(&script)
        .arg("a")
        .env("WORD", "b")
        .output()
        .unwrap();
    let expected = format!("{} a b\n", script.display());
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
}

#[test]
fn argument_zero_is_the_name_as_given() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let source =
        "#include <stdio.h>\nint main(int c, char **v) { (void)c; puts(v[0]); return 0; }\n";
    fixture.program("show", source, &[]).unwrap();
    let output =
        fixture.uepoll().args(["run", "show"]).env("PATH", fixture.path("")).output().unwrap();
    assert_eq!(text(&output.stdout), "show\n");
}

#[test]
fn an_ignored_sigpipe_stays_ignored_and_a_default_one_default() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let show = "grep SigIgn /proc/self/status";
    let under = format!("{} run -- {show}", env!("CARGO_BIN_EXE_uepoll"));
    let shell = |trap: &str, command: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("{trap} {command}")]).env("UEPOLL_LIB", &fixture.library);
        text(&shell.output().unwrap().stdout)
    };
    for trap in ["", "trap '' PIPE;", "trap '' PIPE HUP USR1;"] {
        let native = shell(trap, show);
        assert!(native.starts_with("SigIgn:"));
        assert_eq!(native, shell(trap, &under), "{trap}");
    }
}

#[test]
fn closed_standard_descriptors_stay_closed() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let script = format!(
        "{} run -v -- sh -c 'ls /proc/$$/fd >{}' <&- 2>&-",
        env!("CARGO_BIN_EXE_uepoll"),
        fixture.path("list").display()
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("UEPOLL_LIB", &fixture.library)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let list = std::fs::read_to_string(fixture.path("list")).unwrap();
    let open: Vec<_> = list.lines().collect();
    assert!(open.contains(&"1") && !open.contains(&"0") && !open.contains(&"2"), "{list}");
}

const ASK: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
    long answer = syscall(SYS_epoll_create1, 0);
    printf(answer < 0 && errno == ENOSYS ? "denied\n" : "answered\n");
    return 0;
}
"#;

#[test]
fn denied_epoll_answers_enosys_in_children_too() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let program = fixture.program("ask", ASK, &[]).unwrap();
    let program = program.to_str().unwrap();
    let output = fixture.run(&["--", program]);
    assert_eq!(text(&output.stdout), "answered\n");
    let output = fixture.run(&["--deny-kernel-epoll", "--", program]);
    assert_eq!(text(&output.stdout), "denied\n");
    let nested = format!("{program}; {program}");
    let output = fixture.run(&["--deny-kernel-epoll", "--", "sh", "-c", &nested]);
    assert_eq!(text(&output.stdout), "denied\ndenied\n");
}

#[test]
fn unreadable_programs_are_run_unexamined() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: needs root, to become somebody who may execute and not read");
        return;
    }
    let everyone = |path: &Path| {
        let status = std::process::Command::new("chmod").args(["755".as_ref(), path]).status();
        assert!(status.unwrap().success());
    };
    everyone(&fixture.path(""));
    everyone(&fixture.library);
    let command = fixture.copy_of_uepoll("uepoll");
    let program = fixture.file("hidden", std::fs::read("/bin/true").unwrap(), 0o711);
    let output = std::process::Command::new(&command)
        .args(["run", "-v", "--"])
        .arg(&program)
        .env("UEPOLL_LIB", &fixture.library)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{line}");
    assert!(line.contains("not readable"), "{line}");
}

#[test]
fn the_command_explains_itself() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    for (arguments, word) in [
        (&["--version"][..], env!("CARGO_PKG_VERSION")),
        (&["--help"], "run"),
        (&["run", "--help"], "--deny-kernel-epoll"),
    ] {
        let output = fixture.uepoll().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(word), "{arguments:?}");
        assert_eq!(text(&output.stderr), "");
    }
    for arguments in [&[][..], &["nonsense"], &["run"], &["run", "--nonsense", "true"]] {
        let output = fixture.uepoll().args(arguments).output().unwrap();
        check_refusal(&output, 125, &["uepoll --help"]);
    }
}

#[test]
fn help_that_cannot_be_written_is_a_failure() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = fixture.uepoll().arg("--help").stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(125));
}
