//! Which program would run, and whether a preloaded library would reach its epoll calls.
//!
//! This file asks the file system, follows scripts to their interpreters, and words the refusals; what can be said from
//! bytes alone is said by the modules under it.

pub mod elf;
mod privileges;
mod script;

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object::ReadCache;
use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags};

use crate::failure::Failure;
use elf::Kind;
use privileges::{Asks, Caller, Secure};

/// Where execvp(3) looks when PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// How many interpreters of interpreters are followed; the kernel gives up earlier.
const MAX_HOPS: usize = 8;

/// A program that may be started.
#[derive(Debug)]
pub struct Program {
    /// The file for execve(2).
    pub path: PathBuf,
    /// Why the judgement stayed incomplete, if it did.
    pub doubt: Option<String>,
}

/// Finds a program as execvp(3) does, and refuses it when preloading cannot reach it.
pub fn program(name: &OsStr, search: Option<&OsStr>) -> Result<Program, Failure> {
    let path = find(name, search)?;
    let mut subject = path.display().to_string();
    let mut file = path.clone();
    for hops in 0..MAX_HOPS {
        let next = match judge(&file, search, hops)? {
            Judgement::Reached => return Ok(Program { path, doubt: None }),
            Judgement::Doubtful(why) => {
                let doubt = Some(format!("{} {why}", file.display()));
                return Ok(Program { path, doubt });
            }
            Judgement::Refused(what) => {
                return Err(Failure::cannot(format!("{subject} is {what}")));
            }
            Judgement::RunBy(next) => next,
        };
        subject = format!("{} is run by {}, which", path.display(), next.display());
        file = next;
    }
    Err(Failure::cannot(format!(
        "{} is a script whose interpreters are scripts in turn, more of them than the kernel follows",
        path.display()
    )))
}

/// The outcome for one file; the words of a refusal complete the sentence "FILE is", those of a doubt "FILE".
enum Judgement {
    /// A preloaded library is loaded, and gets to see the calls of libc.
    Reached,
    /// It is not known, and may well work.
    Doubtful(&'static str),
    /// It would not work.
    Refused(String),
    /// This file decides instead.
    RunBy(PathBuf),
}

fn refused(what: impl Into<String>) -> Judgement {
    Judgement::Refused(what.into())
}

/// The file that execvp(3) would run for this name; whether it can be run is [`judge`]'s question.
pub fn find(name: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let shown = Path::new(name).display();
    if name.as_bytes().contains(&b'/') {
        return match Path::new(name).metadata() {
            Err(error) if is_absence(&error) => {
                Err(Failure::missing(format!("{shown} is not there: check the path")))
            }
            _ => Ok(name.into()),
        };
    }
    on_path(name, search).ok_or_else(|| {
        Failure::missing(if name.is_empty() {
            "the name of the program is empty".into()
        } else {
            format!("{shown} is not found on PATH: give its path, or check the name")
        })
    })
}

/// The first runnable file of this name on the search path, else the first of that name at all.
fn on_path(name: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    let mut unrunnable = None;
    for directory in std::env::split_paths(search.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        let file = directory.join(name);
        let Ok(metadata) = file.metadata() else {
            continue;
        };
        if metadata.is_file() && may_execute(&file) {
            return Some(file);
        }
        unrunnable.get_or_insert(file);
    }
    unrunnable
}

/// Judges one file, `hops` interpreters away from the program.
fn judge(path: &Path, search: Option<&OsStr>, hops: usize) -> Result<Judgement, Failure> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if is_absence(&error) => {
            return Ok(refused("missing: install it, or correct the `#!` line"));
        }
        Err(error) => return Ok(refused(format!("out of reach: {error}"))),
    };
    if metadata.is_dir() {
        return Ok(refused("a directory, not a program: name a file in it"));
    }
    if !metadata.is_file() {
        return Ok(refused(
            "not a regular file, and the kernel executes nothing else: name a program file",
        ));
    }
    if !may_execute(path) {
        return Ok(refused(
            "not executable: give it the permission (chmod +x), or move it if its file system is mounted noexec",
        ));
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Ok(by_privileges(path, &metadata)
                .unwrap_or(Judgement::Doubtful("is not readable, hence not examined")));
        }
        Err(error) => return Ok(refused(format!("out of reach: {error}"))),
    };
    let mut start = Vec::new();
    let read = (&mut file).take(script::LOOKED_AT as u64).read_to_end(&mut start);
    if let Err(error) = read {
        return Err(Failure::own(format!("{} cannot be read: {error}", path.display())));
    }
    if let Some(line) = script::line(&start) {
        return Ok(by_line(line, search, hops));
    }
    let by_kind = by_kind(elf::classify(&ReadCache::new(file)));
    Ok(match by_kind {
        Judgement::Reached => by_privileges(path, &metadata).unwrap_or(by_kind),
        other => other,
    })
}

/// Judges a script. Its set-ID bits mean nothing to the kernel, its interpreter's do.
fn by_line(line: script::Line, search: Option<&OsStr>, hops: usize) -> Judgement {
    let interpreter = PathBuf::from(line.interpreter);
    // An env that is a script could name itself: it is followed no further than any other chain.
    let is_env = interpreter.file_name() == Some(OsStr::new("env")) && hops < MAX_HOPS;
    let Some(argument) = line.argument.filter(|_| is_env) else {
        return Judgement::RunBy(interpreter);
    };
    // env itself must let the preload through before its choice matters.
    match judge(&interpreter, search, hops + 1) {
        Ok(Judgement::Reached) => {}
        _ => return Judgement::RunBy(interpreter),
    }
    match script::env(argument.as_bytes()) {
        script::Env::Runs(name) => match find(&name, search) {
            Ok(program) => Judgement::RunBy(program),
            Err(_) => refused(format!(
                "a script for {}, which is not found: install it, or put it on PATH",
                Path::new(&name).display()
            )),
        },
        script::Env::DropsPreload => refused(
            "a script whose `#!` line makes env drop LD_PRELOAD, so that nothing is preloaded: change that line, or name its interpreter on the command line",
        ),
        script::Env::Unclear => Judgement::Doubtful(
            "has a `#!` line for env that is not followed, hence its interpreter is not examined",
        ),
    }
}

/// Judges a file that is no script.
fn by_kind(kind: Option<Kind>) -> Judgement {
    let Some(kind) = kind else {
        return refused(
            "neither an ELF program nor a script with a `#!` line, and only a shell would run it, as its own script: name that shell on the command line",
        );
    };
    match kind {
        Kind::Dynamic { loader } => by_loader(&loader),
        Kind::Loader => Judgement::Reached,
        Kind::Static { pie } => refused(format!(
            "statically linked{}, and without a dynamic loader there is nothing that would load a library into it: link it dynamically",
            if pie { " (static-pie)" } else { "" }
        )),
        Kind::Go => refused(
            "a Go program, and Go's runtime makes its epoll calls inline, past libc, where no preloaded library sees them: run it without uepoll",
        ),
        Kind::Library => refused("a shared library, not a program: name the program that uses it"),
        Kind::Foreign { machine } => refused(format!(
            "made for {machine}, and this libuepoll.so is for {} (64-bit) only: use a build of the program for this machine",
            std::env::consts::ARCH.replace('_', "-")
        )),
        Kind::NotAProgram => refused(
            "an ELF file, but an object file or a core dump and not a program: link it first",
        ),
        Kind::Damaged => refused("a damaged ELF file: build or install it again"),
    }
}

/// Judges a dynamically linked program by the loader that it asks for.
fn by_loader(loader: &OsStr) -> Judgement {
    let path = Path::new(loader);
    let shown = path.display();
    let name = path.file_name().unwrap_or_default().as_bytes();
    if name.starts_with(b"ld-musl") {
        return refused(format!(
            "linked to musl (its loader is {shown}), and libuepoll.so is built on glibc, which cannot live in the same process: use a build of the program for glibc"
        ));
    }
    if path.metadata().is_err_and(|error| is_absence(&error)) {
        return refused(format!(
            "in need of the loader {shown}, which is missing: install the C library that it belongs to"
        ));
    }
    Judgement::Reached
}

/// The refusal of a program that exec would run with more privileges than ours.
fn by_privileges(path: &Path, metadata: &Metadata) -> Option<Judgement> {
    let mut attribute = [0; 32];
    // No attribute, and a file system that has none, are the same here.
    let length = rustix::fs::getxattr(path, "security.capability", &mut attribute[..]).ok();
    let mount = rustix::fs::statvfs(path).ok();
    let asks = Asks {
        mode: metadata.mode(),
        user: metadata.uid(),
        group: metadata.gid(),
        capabilities: length.map(|length| &attribute[..length]),
        nosuid: mount.is_some_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOSUID)),
    };
    Some(refused(match privileges::secure(&asks, &Caller::current())? {
        Secure::SetId => {
            "set-user-ID or set-group-ID to somebody else, and the loader ignores LD_PRELOAD where privileges are gained: become that user first, or run a copy without the bit"
        }
        Secure::Capabilities => {
            "given file capabilities, and the loader ignores LD_PRELOAD where privileges are gained: become root first, or run a copy without them"
        }
        Secure::Caller => {
            "about to run with an effective user or group other than the real one, and the loader ignores LD_PRELOAD then: make them equal first"
        }
    }))
}

/// Whether exec would be allowed to run it, by mode and by mount.
fn may_execute(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// Whether there is no such file, as opposed to one that cannot be looked at.
fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// What kind of ELF file this is, `None` for any other; for a library that is to be preloaded.
pub fn library(path: &Path) -> std::io::Result<Option<Kind>> {
    Ok(elf::classify(&ReadCache::new(File::open(path)?)))
}
