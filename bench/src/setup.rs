//! What all cases share: the two sides, how a program is started on each, and how long a measurement lasts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::Options;
use crate::run;

/// Descriptors that the largest cases need on one side: 9,000 socket pairs or connections, and some room.
const DESCRIPTORS: u64 = 19_000;
/// How the library's file is recognised among a process's mappings.
pub const LIBRARY: &str = "libuepoll.so";

/// One half of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The program as it is, on the kernel's epoll.
    Native,
    /// The same program under the library. With `--native-only`, native once more.
    Preloaded,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Native => "native",
            Side::Preloaded => "preloaded",
        }
    }
}

pub struct Setup {
    pub quick: bool,
    pub pairs: usize,
    /// None: `--native-only`.
    under_library: Option<UnderLibrary>,
    micro: PathBuf,
}

struct UnderLibrary {
    launcher: PathBuf,
    /// The file that the launcher really preloads, read from a process that it started.
    library: PathBuf,
}

impl Setup {
    pub fn new(options: &Options) -> Result<Setup, String> {
        raise_descriptor_limit();
        let executable = std::env::current_exe()
            .map_err(|error| format!("cannot find this executable: {error}"))?;
        let beside = |name: &str| executable.with_file_name(name);
        let under_library =
            if options.native_only { None } else { Some(UnderLibrary::find(beside("uepoll"))?) };
        Ok(Setup {
            quick: options.quick,
            pairs: options.pairs(),
            under_library,
            micro: beside("uepoll-micro"),
        })
    }

    pub fn native_only(&self) -> bool {
        self.under_library.is_none()
    }

    /// Whether a program of this side runs under the library.
    pub fn preloads(&self, side: Side) -> bool {
        side == Side::Preloaded && self.under_library.is_some()
    }

    /// The library that the preloaded side runs under.
    pub fn library(&self) -> Option<&Path> {
        self.under_library.as_ref().map(|under| under.library.as_path())
    }

    /// A command that runs `program` as this side does.
    pub fn command(&self, side: Side, program: &Path) -> Command {
        match &self.under_library {
            Some(under) if side == Side::Preloaded => launched(&under.launcher, program),
            _ => native(program),
        }
    }

    /// `uepoll-micro`, which stands beside this executable.
    pub fn micro(&self) -> &Path {
        &self.micro
    }

    /// `full`, or `quick` with `--quick`.
    pub fn either<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

impl UnderLibrary {
    /// Starts one program under the launcher and looks whether the library is in it. Without this, a launcher that
    /// preloads nothing would measure the kernel twice and print beautiful ratios.
    fn find(launcher: PathBuf) -> Result<UnderLibrary, String> {
        if !launcher.exists() {
            return Err(format!("{} is missing: run `make build` first", launcher.display()));
        }
        let mut look = launched(&launcher, Path::new("cat"));
        look.arg("/proc/self/maps");
        let maps = run::bounded(look, Duration::from_secs(10))
            .map_err(|error| format!("a trial run: {error}"))?;
        let library =
            maps.split_whitespace().find(|word| word.starts_with('/') && word.ends_with(LIBRARY));
        match library {
            Some(library) => Ok(UnderLibrary { launcher, library: PathBuf::from(library) }),
            None => {
                Err(format!("{} run -- cat: {LIBRARY} is not in that process", launcher.display()))
            }
        }
    }
}

fn launched(launcher: &Path, program: &Path) -> Command {
    let mut command = native(launcher);
    command.args(["run", "--"]).arg(program);
    command
}

/// A program as it is: also when the bench itself was started under the library.
pub fn native(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("LD_PRELOAD");
    command
}

/// The first of `tools` that is neither on the search path nor where distributions keep servers.
pub fn missing(tools: &[&'static str]) -> Option<&'static str> {
    tools.iter().copied().find(|tool| find(tool).is_none())
}

/// The file of a program: on the search path, or where servers are kept out of users' sight.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// The servers and load generators inherit the limit. A hard limit that is too low makes the large cases fail by name.
fn raise_descriptor_limit() {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < DESCRIPTORS) {
        let raised = Rlimit { current: now.maximum, maximum: now.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            eprintln!("uepoll-bench: the limit of open descriptors stays as it is: {error}");
        }
    }
}
