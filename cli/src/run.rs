//! `uepoll run`: finds the library, sets LD_PRELOAD, and becomes the program.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::deny;
use crate::examine::{self, elf::Kind};
use crate::failure::Failure;

/// The library's file name.
const LIBRARY: &str = "libuepoll.so";
/// Where the library may be, seen from the directory of this command.
const PLACES: [&str; 3] = ["libuepoll.so", "../lib/libuepoll.so", "../lib/uepoll/libuepoll.so"];
/// The variable that names the library instead.
const LIBRARY_VARIABLE: &str = "UEPOLL_LIB";
/// The loader's variable.
const PRELOAD_VARIABLE: &str = "LD_PRELOAD";

/// The arguments of `uepoll run`.
#[derive(clap::Args, Debug)]
#[command(override_usage = "uepoll run [OPTIONS] [--] PROGRAM [ARGS]...")]
pub struct Options {
    /// Make every epoll system call answer ENOSYS (seccomp), to prove that none is needed
    #[arg(long)]
    deny_kernel_epoll: bool,
    /// Say on standard error what is done
    #[arg(short, long)]
    verbose: bool,
    /// The program, looked up through PATH, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Becomes the program; comes back only with the reason why not.
pub fn run(options: &Options) -> Failure {
    match prepare(options) {
        Ok(exec) => exec.go(),
        Err(failure) => failure,
    }
}

/// Denies the kernel's epoll; who asks for it all the same is named, if that was asked for and can be done.
fn deny(verbose: bool, library: &Path) -> Result<(), Failure> {
    if !verbose {
        return deny::deny();
    }
    let Err(why) = deny::deny_and_name(library) else { return Ok(()) };
    let _ = writeln!(std::io::stderr(), "uepoll: raw epoll calls will not be named: {why}");
    deny::deny()
}

/// All that execve(2) takes.
struct Exec {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Exec {
    /// Replaces this process. execve and not execvp: what the kernel refuses is not handed to a shell.
    fn go(&self) -> Failure {
        let Err(error) = nix::unistd::execve(&self.path, &self.arguments, &self.environment);
        Failure::cannot(format!(
            "{} cannot be executed: {}",
            Path::new(OsStr::from_bytes(self.path.as_bytes())).display(),
            error.desc()
        ))
    }
}

/// Decides everything, says it if asked to, and denies the kernel's epoll.
fn prepare(options: &Options) -> Result<Exec, Failure> {
    let name = &options.program[0];
    let program = examine::program(name, std::env::var_os("PATH").as_deref())?;
    let library = find_library()?;
    let preload = preload(&library, std::env::var_os(PRELOAD_VARIABLE).as_deref())?;
    if options.verbose {
        let denied = if options.deny_kernel_epoll { ", kernel epoll denied (ENOSYS)" } else { "" };
        let doubt = program.doubt.map(|why| format!(" ({why})"));
        // A closed stderr must not keep the program from running.
        let _ = writeln!(
            std::io::stderr(),
            "uepoll: preloading {}{denied}, running {}{}",
            library.display(),
            program.path.display(),
            doubt.unwrap_or_default()
        );
    }
    let environment = std::env::vars_os()
        .filter(|(name, _)| name != PRELOAD_VARIABLE)
        .chain([(PRELOAD_VARIABLE.into(), preload)])
        .map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            text(variable)
        });
    let exec = Exec {
        path: text(program.path.into())?,
        arguments: options.program.iter().cloned().map(text).collect::<Result<_, _>>()?,
        environment: environment.collect::<Result<_, _>>()?,
    };
    if options.deny_kernel_epoll {
        deny(options.verbose, &library)?;
    }
    Ok(exec)
}

/// A string for the kernel.
fn text(string: OsString) -> Result<CString, Failure> {
    CString::new(string.into_vec())
        .map_err(|_| Failure::own("an argument or a variable has a zero byte in it"))
}

/// The library's absolute path: the variable's, else a place beside or near this command.
fn find_library() -> Result<PathBuf, Failure> {
    let named = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty());
    let library = match named {
        Some(named) => PathBuf::from(named),
        None => beside_command()?,
    };
    let library = std::path::absolute(&library)
        .map_err(|error| Failure::own(format!("the current directory is not known: {error}")))?;
    let shown = library.display();
    match examine::library(&library) {
        Err(error) => Err(Failure::own(format!(
            "the library {shown}, named by {LIBRARY_VARIABLE}, cannot be read: {error}"
        ))),
        // glibc's own libc.so.6 has a loader named in it, as a program has.
        Ok(Some(Kind::Library | Kind::Dynamic { .. })) => Ok(library),
        Ok(_) => Err(Failure::own(format!(
            "{shown} is not a shared library for this machine: build it again, or set {LIBRARY_VARIABLE} to another"
        ))),
    }
}

/// Looks in the known places.
fn beside_command() -> Result<PathBuf, Failure> {
    let command = std::env::current_exe().or_else(called).map_err(|error| {
        Failure::own(format!(
            "/proc/self/exe, beside which {LIBRARY} is looked for, cannot be read ({error}): set {LIBRARY_VARIABLE} to its path"
        ))
    })?;
    let directory = command.parent().unwrap_or(Path::new("/"));
    PLACES
        .iter()
        .map(|place| directory.join(place))
        .find_map(|candidate| {
            // Without `..` in it the path reads as users know it.
            candidate.is_file().then(|| candidate.canonicalize().ok())?
        })
        .ok_or_else(|| {
            Failure::own(format!(
                "{LIBRARY} is neither in {0} nor in {0}/../lib or {0}/../lib/uepoll: install it there, or set {LIBRARY_VARIABLE} to its path",
                directory.display()
            ))
        })
}

/// Without /proc: the name by which this program was called, found as a shell finds it.
fn called(error: io::Error) -> io::Result<PathBuf> {
    let Some(name) = std::env::args_os().next().map(PathBuf::from) else { return Err(error) };
    match examine::find(name.as_os_str(), std::env::var_os("PATH").as_deref()) {
        Ok(found) => found.canonicalize(),
        Err(_) => Err(error),
    }
}

/// The new value of LD_PRELOAD: our library first, then what was there.
fn preload(library: &Path, before: Option<&OsStr>) -> Result<OsString, Failure> {
    let bytes = library.as_os_str().as_bytes();
    let shown = library.display();
    if bytes.iter().any(|byte| b" :".contains(byte)) {
        return Err(Failure::own(format!(
            "the library's path '{shown}' has a space or a colon in it, and LD_PRELOAD is split at both: move it, or set {LIBRARY_VARIABLE} to a path without them"
        )));
    }
    if bytes.contains(&b'$') {
        return Err(Failure::own(format!(
            "the library's path '{shown}' has a `$` in it, which the loader may expand in LD_PRELOAD: move it, or set {LIBRARY_VARIABLE} to a path without one"
        )));
    }
    let mut value = library.as_os_str().to_owned();
    if let Some(before) = before.filter(|before| !before.is_empty()) {
        value.push(":");
        value.push(before);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_comes_first_and_the_rest_stays() {
        let value = |before| preload(Path::new("/lib/libuepoll.so"), before).unwrap();
        assert_eq!(value(None), "/lib/libuepoll.so");
        assert_eq!(value(Some(OsStr::new(""))), "/lib/libuepoll.so");
        assert_eq!(value(Some(OsStr::new("/a.so b.so"))), "/lib/libuepoll.so:/a.so b.so");
    }

    #[test]
    fn paths_that_ld_preload_would_split_are_refused() {
        for path in ["/a b/libuepoll.so", "/a:b/libuepoll.so", "/$LIB/libuepoll.so"] {
            let failure = preload(Path::new(path), None).unwrap_err();
            assert_eq!(failure.status, crate::failure::OWN);
            assert!(failure.sentence.contains("LD_PRELOAD"), "{failure:?}");
        }
    }
}
