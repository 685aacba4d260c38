//! What the command reads of a program that nobody vouches for: its ELF headers, its `#!` line, the capabilities of its
//! file. Nothing of it may panic, and some answers follow from others.
#![no_main]
#![allow(dead_code)]

#[path = "../../cli/src/examine/elf.rs"]
mod elf;
#[path = "../../cli/src/examine/privileges.rs"]
mod privileges;
#[path = "../../cli/src/examine/script.rs"]
mod script;

use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use privileges::{Asks, Caller};

fuzz_target!(|bytes: &[u8]| {
    let kind = elf::classify(bytes);
    assert_eq!(kind.is_some(), bytes.starts_with(b"\x7fELF"));

    if let Some(line) = script::line(bytes) {
        assert!(bytes.starts_with(b"#!"));
        assert!(!line.interpreter.is_empty());
        if let Some(argument) = line.argument {
            assert!(!argument.is_empty());
            script::env(argument.as_bytes());
        }
    }
    script::env(bytes);

    let caller = Caller { user: (1000, 1000), group: (1000, 1000), no_new_privs: false };
    let plain = Asks { mode: 0o755, user: 0, group: 0, capabilities: Some(bytes), nosuid: false };
    let root = Caller { user: (0, 0), group: (0, 0), no_new_privs: false };
    privileges::secure(&plain, &caller);
    assert_eq!(privileges::secure(&plain, &root), None);
});
