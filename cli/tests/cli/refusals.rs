//! Programs that preloading cannot reach are refused at once, with the status and the words that say why.

use std::os::unix::fs::PermissionsExt;

use crate::common::{Fixture, check_refusal};

const MAIN: &str = "int main(void) { return 0; }\n";

#[test]
fn missing_programs() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.refused("no-such-program", 127, &["no-such-program", "PATH"]);
    fixture.refused("./no-such-program", 127, &["not there"]);
    fixture.refused("/bin/sh/x", 127, &["not there"]);
    fixture.refused("", 127, &["empty"]);
}

#[test]
fn files_that_are_no_programs() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.refused(fixture.path(""), 126, &["a directory"]);
    fixture.refused("/dev/null", 126, &["not a regular file"]);
    fixture.refused(fixture.file("plain", "x", 0o644), 126, &["not executable", "chmod"]);
    let words = ["neither an ELF program nor a script"];
    fixture.refused(fixture.file("text", "echo hello\n", 0o755), 126, &words);
    fixture.refused(fixture.file("empty", "", 0o755), 126, &words);
    fixture.refused(fixture.file("stub", "\x7fELF", 0o755), 126, &["damaged"]);
    let library = fixture.library.clone();
    fixture.refused(library, 126, &["a shared library"]);
}

#[test]
fn a_file_that_cannot_be_run_is_found_on_path_all_the_same() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    fixture.file("plain", "x", 0o644);
    let output =
        fixture.uepoll().args(["run", "plain"]).env("PATH", fixture.path("")).output().unwrap();
    check_refusal(&output, 126, &["not executable"]);
}

#[test]
fn programs_without_a_loader() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    if let Some(program) = fixture.program("static", MAIN, &["-static"]) {
        fixture.refused(program, 126, &["statically linked", "link it dynamically"]);
    }
    if let Some(program) = fixture.program("pie", MAIN, &["-static-pie"]) {
        fixture.refused(program, 126, &["static-pie"]);
    }
}

#[test]
fn programs_of_other_worlds() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let go = format!("__asm__(\".section .go.buildinfo,\\\"aw\\\"\\n.quad 0\\n.text\");\n{MAIN}");
    if let Some(program) = fixture.program("go", &go, &[]) {
        fixture.refused(program, 126, &["a Go program", "inline"]);
    }
    let musl = "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1";
    if let Some(program) = fixture.program("musl", MAIN, &[musl]) {
        fixture.refused(program, 126, &["musl", "glibc"]);
    }
    let gone = "-Wl,--dynamic-linker=/no/loader.so";
    if let Some(program) = fixture.program("gone", MAIN, &[gone]) {
        fixture.refused(program, 126, &["/no/loader.so", "missing"]);
    }
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_uepoll")).unwrap();
    bytes[18..20].copy_from_slice(&243u16.to_le_bytes());
    fixture.refused(fixture.file("riscv", &bytes, 0o755), 126, &["RISC-V"]);
    bytes[4] = 1;
    bytes[18..20].copy_from_slice(&3u16.to_le_bytes());
    fixture.refused(fixture.file("i386", &bytes, 0o755), 126, &["i386 (32-bit)"]);
}

#[test]
fn programs_that_gain_privileges() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    if rustix::thread::no_new_privs().unwrap_or(false) {
        eprintln!("skipped: set-ID bits mean nothing under no_new_privs");
        return;
    }
    let Some(program) = fixture.program("set-id", MAIN, &[]) else {
        return;
    };
    // Only root can give a file away; everybody else finds su(1) in the system.
    let program = if rustix::process::getuid().is_root() {
        std::os::unix::fs::chown(&program, Some(1), None).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
        program
    } else {
        "su".into()
    };
    fixture.refused(program, 126, &["set-user-ID", "LD_PRELOAD"]);
}

#[test]
fn scripts_are_judged_by_their_interpreters() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let script = |name: &str, line: &str| fixture.file(name, format!("#!{line}\n"), 0o755);
    fixture.refused(script("a", "/no/interpreter"), 126, &["/no/interpreter", "missing"]);
    fixture.refused(script("b", "/usr/bin/env no-such-one"), 126, &["no-such-one", "not found"]);
    fixture.refused(script("c", "/usr/bin/env -S -i sh"), 126, &["LD_PRELOAD"]);
    fixture.refused(script("d", fixture.path("d").to_str().unwrap()), 126, &["scripts in turn"]);
    let own = format!("{} sh", fixture.path("env").display());
    fixture.refused(script("env", &own), 126, &["scripts in turn"]);
    if let Some(program) = fixture.program("static", MAIN, &["-static"]) {
        let program = program.to_str().unwrap().to_owned();
        let words = ["is run by", "which is statically linked"];
        let direct = script("e", &format!(" {program} -x"));
        fixture.refused(&direct, 126, &words);
        fixture.refused(script("f", direct.to_str().unwrap()), 126, &words);
        fixture.refused(script("g", &format!("/usr/bin/env {program}")), 126, &words);
        fixture.refused(script("h", &format!("/usr/bin/env -S A=b {program} -x")), 126, &words);
    }
}
