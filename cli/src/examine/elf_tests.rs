//! Real programs, compiled here, and the same with their headers changed.

use std::path::Path;
use std::process::Command;

use super::*;

const MAIN: &str = "int main(void) { return 0; }\n";
const GO_SECTION: &str = "__asm__(\".section .go.buildinfo,\\\"aw\\\"\\n.quad 0\\n.text\");\n";
const GO_NOTE: &str = "__asm__(\".section .note.x,\\\"a\\\",@note\\n.long 4\\n.long 4\\n.long 4\\n\
                       .asciz \\\"Go\\\"\\n.byte 0\\n.long 0\\n.text\");\n";

/// The file that cc makes of this source with these options; `None` where cc or a static libc is missing.
fn compiled(source: &str, options: &[&str]) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("p.c"), directory.path().join("p"));
    std::fs::write(&input, source).unwrap();
    let status = Command::new("cc")
        .args(options)
        .arg("-o")
        .args([&output, &input])
        .stderr(std::process::Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("skipped: cc {options:?} does not work here");
        return None;
    }
    Some(std::fs::read(&output).unwrap())
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    classify(bytes)
}

#[test]
fn compiled_programs() {
    for (source, options, expected) in [
        (MAIN, &["-static"][..], Kind::Static { pie: false }),
        (MAIN, &["-static-pie"], Kind::Static { pie: true }),
        (MAIN, &["-shared", "-fPIC"], Kind::Library),
        (MAIN, &["-c"], Kind::NotAProgram),
        (
            MAIN,
            &["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"],
            Kind::Dynamic { loader: "/lib/ld-musl-x86_64.so.1".into() },
        ),
    ] {
        if let Some(bytes) = compiled(source, options) {
            assert_eq!(kind(&bytes), Some(expected), "{options:?}");
        }
    }
    for source in [GO_SECTION, GO_NOTE] {
        for options in [&[][..], &["-static"]] {
            if let Some(bytes) = compiled(&format!("{source}{MAIN}"), options) {
                assert_eq!(kind(&bytes), Some(Kind::Go), "{options:?} {source}");
            }
        }
    }
}

#[test]
fn the_loader_is_known_by_its_name() {
    let Some(bytes) = compiled(MAIN, &[]) else {
        return;
    };
    let Some(Kind::Dynamic { loader }) = kind(&bytes) else {
        panic!("cc makes dynamic programs");
    };
    if Path::new(&loader).exists() {
        let loader = std::fs::read(loader).unwrap();
        assert_eq!(kind(&loader), Some(Kind::Loader));
    }
}

#[test]
fn other_machines_and_word_sizes() {
    let own = std::fs::read("/proc/self/exe").unwrap();
    for (at, value, words) in
        [(18, 40, "ARM (64-bit)"), (18, 243, "RISC-V (64-bit)"), (18, 200, "ELF machine 200")]
    {
        let mut bytes = own.clone();
        bytes[at] = value;
        assert_eq!(kind(&bytes), Some(Kind::Foreign { machine: words.into() }));
    }
    let mut bytes = own;
    bytes[4] = 1;
    assert!(matches!(kind(&bytes), Some(Kind::Foreign { .. })));
}

#[test]
fn no_file_makes_it_panic() {
    assert_eq!(kind(b""), None);
    assert_eq!(kind(b"\x7fEL"), None);
    assert_eq!(kind(b"#!/bin/sh\n"), None);
    assert_eq!(kind(b"\x7fELF"), Some(Kind::Damaged));
    let Some(own) = compiled(MAIN, &[]) else {
        return;
    };
    for length in (4..own.len()).step_by(7) {
        assert!(kind(&own[..length]).is_some());
    }
    // The file header and the segments.
    for at in 4..1024 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = own.clone();
            bytes[at] = value;
            assert!(kind(&bytes).is_some(), "byte {at} = {value}");
        }
    }
}
