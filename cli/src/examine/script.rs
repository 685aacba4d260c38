//! The `#!` line of a script. Pure: bytes in, words out.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// How much of a file the kernel looks at for its `#!` line.
pub const LOOKED_AT: usize = 256;

/// A `#!` line, taken apart as execve(2) does.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// The interpreter's path.
    pub interpreter: OsString,
    /// All the rest, which the kernel passes as one argument.
    pub argument: Option<OsString>,
}

/// The `#!` line at the start of a file, if there is one that the kernel would take.
pub fn line(start: &[u8]) -> Option<Line> {
    let line = start.get(..LOOKED_AT).unwrap_or(start).strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n' || byte == 0).next()?;
    let line = trim(line);
    if line.is_empty() {
        return None;
    }
    let end = line.iter().position(|&byte| blank(byte));
    let (interpreter, argument) = line.split_at(end.unwrap_or(line.len()));
    let argument = trim(argument);
    Some(Line {
        interpreter: OsString::from_vec(interpreter.to_vec()),
        argument: (!argument.is_empty()).then(|| OsString::from_vec(argument.to_vec())),
    })
}

/// What env(1) does with the argument of a `#!` line.
#[derive(Debug, PartialEq, Eq)]
pub enum Env {
    /// It runs this program, looked up through PATH.
    Runs(OsString),
    /// It takes LD_PRELOAD away first.
    DropsPreload,
    /// An option or an expansion that is not followed here.
    Unclear,
}

/// Reads the argument of a `#!` line as env(1) would.
pub fn env(argument: &[u8]) -> Env {
    let split = [&b"-S"[..], b"-vS", b"--split-string="]
        .iter()
        .find_map(|option| argument.strip_prefix(*option));
    let words = match split {
        None => vec![argument.to_vec()],
        Some(rest) => match words(rest) {
            Some(words) => words,
            None => return Env::Unclear,
        },
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let unset = match word.as_slice() {
            b"-i" | b"-" | b"--ignore-environment" => return Env::DropsPreload,
            b"-v" | b"--debug" => continue,
            b"-u" => words.next().unwrap_or_default(),
            _ => {
                if let Some(name) = word.strip_prefix(b"--unset=") {
                    name.to_vec()
                } else if word.starts_with(b"-") || word.starts_with(b"PATH=") {
                    return Env::Unclear;
                } else if let Some(equals) = word.iter().position(|&byte| byte == b'=') {
                    word[..equals].to_vec()
                } else {
                    return Env::Runs(OsString::from_vec(word));
                }
            }
        };
        if unset == b"LD_PRELOAD" {
            return Env::DropsPreload;
        }
    }
    Env::Unclear
}

/// Splits as `env -S` does, `None` where it would expand something.
fn words(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    for &byte in text {
        match (quote, byte) {
            (_, b'\\' | b'$') => return None,
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(byte),
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, _) if blank(byte) => words.extend(word.take()),
            (None, b'#') if word.is_none() => break,
            (None, _) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// What separates words on a `#!` line.
fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|&byte| !blank(byte));
    let last = bytes.iter().rposition(|&byte| !blank(byte));
    match (first, last) {
        (Some(first), Some(last)) => &bytes[first..=last],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_apart(text: &str) -> Option<(String, Option<String>)> {
        let text_of = |word: OsString| word.into_string().unwrap();
        let line = line(text.as_bytes())?;
        Some((text_of(line.interpreter), line.argument.map(text_of)))
    }

    #[test]
    fn lines() {
        let some = |interpreter: &str, argument: Option<&str>| {
            Some((interpreter.to_owned(), argument.map(str::to_owned)))
        };
        for (text, expected) in [
            ("#!/bin/sh\necho", some("/bin/sh", None)),
            ("#!/bin/sh", some("/bin/sh", None)),
            ("#! \t/bin/sh \t\n", some("/bin/sh", None)),
            ("#!/bin/sh -e -u \n", some("/bin/sh", Some("-e -u"))),
            ("#!/bin/sh\r\n", some("/bin/sh\r", None)),
            ("#!\n/bin/sh", None),
            ("#!   \n", None),
            ("# /bin/sh\n", None),
            ("", None),
        ] {
            assert_eq!(taken_apart(text), expected, "{text:?}");
        }
    }

    #[test]
    fn env_arguments() {
        let runs = |name: &str| Env::Runs(name.into());
        for (text, expected) in [
            ("python3", runs("python3")),
            ("python3 -u", runs("python3 -u")),
            ("-S python3 -u", runs("python3")),
            ("-Spython3", runs("python3")),
            ("-vS python3", runs("python3")),
            ("--split-string=A=b 'my prog' x", runs("my prog")),
            ("-S -u HOME node", runs("node")),
            ("-S --unset=HOME node", runs("node")),
            ("-S A=\"b c\" node", runs("node")),
            ("-i", Env::DropsPreload),
            ("-S -i node", Env::DropsPreload),
            ("-S -u LD_PRELOAD node", Env::DropsPreload),
            ("-S LD_PRELOAD= node", Env::DropsPreload),
            ("-S PATH=/x node", Env::Unclear),
            ("-S -C /x node", Env::Unclear),
            ("-S ${NODE} x", Env::Unclear),
            ("-S 'open", Env::Unclear),
            ("-S", Env::Unclear),
        ] {
            assert_eq!(env(text.as_bytes()), expected, "{text:?}");
        }
    }
}
