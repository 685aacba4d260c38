//! What the tests of the command share: a directory with programs of every kind, and runs of the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A fresh directory with a harmless library in it.
pub struct Fixture {
    directory: TempDir,
    /// An empty shared object: preloading it changes nothing.
    pub library: PathBuf,
}

impl Fixture {
    /// `None` where there is no C compiler; the test is then skipped.
    pub fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let library = compile(directory.path(), "libempty.so", "", &["-shared", "-fPIC"])?;
        Some(Self { directory, library })
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file with this content and mode.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let (written, path) = (self.path(&format!("{name}.content")), self.path(name));
        std::fs::write(&written, content).unwrap();
        install(&written, &path, mode);
        path
    }

    /// A copy of the command itself, so that something can stand beside it.
    pub fn copy_of_uepoll(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        install(Path::new(env!("CARGO_BIN_EXE_uepoll")), &path, 0o755);
        path
    }

    /// A compiled C program, `None` where these options do not work.
    pub fn program(&self, name: &str, source: &str, options: &[&str]) -> Option<PathBuf> {
        compile(self.directory.path(), name, source, options)
    }

    /// The command with the harmless library and a clean environment.
    pub fn uepoll(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uepoll"));
        command
            .env("UEPOLL_LIB", &self.library)
            .env_remove("LD_PRELOAD")
            .current_dir(self.directory.path());
        command
    }

    /// Runs `uepoll run ARGUMENTS`.
    pub fn run<I: AsRef<std::ffi::OsStr>>(&self, arguments: &[I]) -> Output {
        self.uepoll().arg("run").args(arguments).output().unwrap()
    }

    /// Checks that a program is refused with this status, in one line that has all of these words.
    #[track_caller]
    pub fn refused(&self, program: impl AsRef<Path>, status: i32, words: &[&str]) {
        let output = self.run(&["--".as_ref(), program.as_ref()]);
        check_refusal(&output, status, words);
    }
}

/// Checks exit status, silence on stdout, and one sentence on stderr.
#[track_caller]
pub fn check_refusal(output: &Output, status: i32, words: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{error}");
    assert_eq!(text(&output.stdout), "");
    assert!(error.starts_with("uepoll: "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Copies a file that is to be run, by a process of its own: what this process itself had open for writing may still be
/// open in a child that another test's thread is just starting, and running it then fails (ETXTBSY).
fn install(from: &Path, to: &Path, mode: u32) {
    let status = Command::new("install").arg(format!("--mode={mode:o}")).args([from, to]).status();
    assert!(status.unwrap().success(), "install {}", to.display());
}

fn compile(directory: &Path, name: &str, source: &str, options: &[&str]) -> Option<PathBuf> {
    let (input, output) = (directory.join(format!("{name}.c")), directory.join(name));
    std::fs::write(&input, source).unwrap();
    let status = Command::new("cc")
        .args(options)
        .arg("-o")
        .args([&output, &input])
        .stderr(Stdio::null())
        .status();
    if status.is_ok_and(|status| status.success()) {
        return Some(output);
    }
    eprintln!("skipped: cc {options:?} does not work here");
    None
}
