//! What the library obeys, and what it writes to: nothing of the environment where a program has more rights than its caller,
//! and no file that is not the user's own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::Fixture;

/// Makes an instance, and says whether the kernel set AT_SECURE.
const PROGRAM: &str = "#include <stdio.h>\n#include <sys/auxv.h>\n#include <sys/epoll.h>\n\
    int main(void) { int fd = epoll_create1(0); printf(\"secure %lu, %d\\n\", getauxval(AT_SECURE), fd >= 0);\n\
    return fd < 0; }\n";

/// A user and group that nobody is logged in as.
const NOBODY: u32 = 65534;

/// The library that was built beside the command; `None`, with a word, where there is none.
fn built_library() -> Option<PathBuf> {
    let library = Path::new(env!("CARGO_BIN_EXE_uepoll")).with_file_name("libuepoll.so");
    if !library.exists() {
        eprintln!("skipped: {} is not built", library.display());
        return None;
    }
    Some(library)
}

/// A program with the library among what it is linked to: the loader obeys that in a set-user-ID program too, as it does not
/// obey LD_PRELOAD.
fn linked(fixture: &Fixture, library: &Path) -> Option<PathBuf> {
    // Where other users can reach it, whatever stands above the directory that it was built in.
    let copy = fixture.path("libuepoll.so");
    fs::copy(library, &copy).unwrap();
    fs::set_permissions(fixture.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    fixture.program("program", PROGRAM, &["-Wl,--no-as-needed", copy.to_str()?])
}

fn run(program: &Path, log: &Path) -> Output {
    Command::new(program).env("UEPOLL_LOG", log).env_remove("LD_PRELOAD").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn nothing_of_the_environment_is_obeyed_with_more_rights() {
    let Some((fixture, library)) = Fixture::new().zip(built_library()) else { return };
    let Some(program) = linked(&fixture, &library) else { return };
    let log = fixture.path("log");

    assert_eq!(said(&run(&program, &log)), "secure 0, 1\n");
    assert!(fs::read_to_string(&log).unwrap().contains("loaded"), "obeyed with no more rights");
    fs::remove_file(&log).unwrap();

    for (name, mode) in [("set-user-ID", 0o4755), ("set-group-ID", 0o2755)] {
        if chown(&program, Some(NOBODY), Some(NOBODY)).is_err() {
            return eprintln!("skipped: only root can give a program to another user");
        }
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        let output = run(&program, &log);
        if said(&output) == "secure 0, 1\n" {
            // Mounted nosuid, or under no_new_privs.
            return eprintln!("skipped: the kernel does not honour the {name} bit here");
        }
        assert_eq!(said(&output), "secure 1, 1\n", "{name}: {output:?}");
        assert!(!log.exists(), "{name}: UEPOLL_LOG was obeyed");
    }
}

#[test]
fn the_log_is_for_its_user_alone() {
    let Some((fixture, library)) = Fixture::new().zip(built_library()) else { return };
    let Some(program) = linked(&fixture, &library) else { return };
    let log = fixture.path("log");
    assert!(run(&program, &log).status.success());
    assert_eq!(fs::metadata(&log).unwrap().mode() & 0o7077, 0, "nobody else reads it");

    // One that is there keeps its mode, and gets another line.
    fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(run(&program, &log).status.success());
    assert_eq!(fs::metadata(&log).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2);
}

#[test]
fn the_log_is_written_to_nothing_that_others_may_have_laid() {
    let Some((fixture, library)) = Fixture::new().zip(built_library()) else { return };
    let Some(program) = linked(&fixture, &library) else { return };
    let treasure = fixture.file("treasure", "gold\n", 0o600);

    let links = [fixture.path("symbolic"), fixture.path("hard")];
    symlink(&treasure, &links[0]).unwrap();
    fs::hard_link(&treasure, &links[1]).unwrap();
    symlink(fixture.path("absent"), fixture.path("dangling")).unwrap();
    for log in links.iter().chain([&fixture.path("dangling")]) {
        assert!(run(&program, log).status.success(), "{}", log.display());
    }
    assert_eq!(fs::read_to_string(&treasure).unwrap(), "gold\n");
    assert!(!fixture.path("absent").exists());

    // Nobody reads it: who opens it as a plain file hangs.
    let fifo = fixture.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(run(&program, &fifo).status.success());

    let foreign = fixture.file("foreign", "", 0o666);
    if chown(&foreign, Some(NOBODY), None).is_ok() {
        assert!(run(&program, &foreign).status.success());
        assert_eq!(fs::read_to_string(&foreign).unwrap(), "", "another user's file");
    }
}
