//! The differential tester's scripts, as files have them: no text may panic, and what is understood is written as it was
//! meant.
#![no_main]
#![allow(dead_code)]

#[path = "../../difftest/src/mask.rs"]
mod mask;
#[path = "../../difftest/src/script.rs"]
mod script;
#[path = "../../difftest/src/text.rs"]
mod text;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(bytes) = std::str::from_utf8(bytes) else { return };
    if let Ok(script) = text::parse(bytes) {
        assert_eq!(text::parse(&text::print(&script)), Ok(script));
    }
});
