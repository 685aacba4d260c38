//! The command `uepoll`.
//!
//! It only prepares: what it starts takes its place by exec, with the library preloaded. Reading order: [`run`] is what
//! happens, [`examine`] says which programs preloading can reach, [`deny`] is the proof that the kernel was not asked,
//! [`witness`] says who asks it all the same.

// A program is to inherit from us exactly what we inherited. Rust's own start-up would ignore SIGPIPE and open
// /dev/null on closed standard descriptors before we could look, so the C runtime calls `main` below directly.
#![cfg_attr(not(test), no_main)]

mod deny;
mod examine;
mod failure;
mod listener;
mod run;
mod witness;

use std::io::Write;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::Failure;

/// epoll in user space: runs unmodified programs whose epoll calls a preloaded library answers over poll(2).
#[derive(Parser)]
#[command(name = "uepoll", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What can be asked of the command.
#[derive(Subcommand)]
enum Command {
    /// Run a program with libuepoll.so preloaded
    Run(run::Options),
    /// What `uepoll run -v --deny-kernel-epoll` starts beside the program
    #[command(hide = true)]
    Witness(witness::Options),
}

/// The C runtime's entry; the exit status is that of [`start`].
#[cfg(not(test))]
#[expect(unsafe_code, reason = "exports a symbol; no other `main` exists under no_main")]
#[unsafe(no_mangle)]
extern "C" fn main() -> libc::c_int {
    start()
}

/// Does what the command line asks for; returns only what could not be handed over to a program.
#[cfg_attr(test, expect(dead_code, reason = "the test harness brings its own main"))]
fn start() -> libc::c_int {
    let failure = match Arguments::try_parse() {
        Ok(Arguments { command: Command::Run(options) }) => run::run(&options),
        Ok(Arguments { command: Command::Witness(options) }) => match witness::run(&options) {
            Ok(()) => return 0,
            Err(failure) => failure,
        },
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return print(&error.to_string()),
            _ => Failure::own(usage(&error)),
        },
    };
    // A closed or full stderr is no reason to change the exit status.
    let _ = writeln!(std::io::stderr(), "uepoll: {}", failure.sentence);
    failure.status.into()
}

/// Writes help or version where they were asked for: on standard output.
fn print(text: &str) -> libc::c_int {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.is_ok() { 0 } else { failure::OWN.into() }
}

/// One sentence out of clap's paragraphs.
fn usage(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "say what to do: `uepoll run -- PROGRAM` runs a program (see `uepoll --help`)"
            .into();
    }
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!("{line} (see `uepoll --help`)")
}
