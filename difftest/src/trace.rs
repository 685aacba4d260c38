//! Traces: a script with libc's epoll calls only, and what each of them gave, as text. The same program makes the same
//! script natively and under the library, and the two texts are compared.
//!
//! Nobody can tell an echo (`echo.rs`) across two processes, nor wait for the slower side. So traces keep to what can
//! be compared exactly, see [`wishes`] and [`traceable`].

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::compare::{ONCE, Told};
use crate::echo;
use crate::generate::Wishes;
use crate::mask::Mask;
use crate::script::{Action, Errand, Kind, Op, Target, living};
use crate::shrink;
use crate::sys::{self, Answer, Event, Fd};
use crate::text;
use crate::twin::{self, Side, Twin};
use crate::world::World;

/// Loopback and ends of children need a moment before all is where it goes.
const MOMENT: Duration = Duration::from_millis(2);

/// How long a wait sleeps for what another thread does.
const NAP: i32 = 40;

/// Each look at a smaller script starts two processes: no longer than this.
const ENOUGH: Duration = Duration::from_secs(60);

/// So many times a difference must show again.
const SURE: usize = 3;

/// Scripts of one process: enough that its start does not count, few enough that a hang is found soon.
const BATCH: u64 = 50;

/// Left out: timers, and terminals, whose state depends on the time; splice, which echoes on pipes; what a child of fork finds, since it shares the
/// kernel's instance and has a copy of the library's; close_range, which might close what is not the script's.
pub fn wishes(wishes: &mut Wishes) {
    wishes.kinds.retain(|kind| !matches!(kind, Kind::Timer | Kind::Pty));
    wishes.without_ops.extend(["fork", "close-range", "splice"].map(String::from));
}

/// Edges stay only on files that have no echoes.
fn traceable(mask: Mask, kind: Option<Kind>) -> Mask {
    if kind.is_some_and(|kind| !echo::is_allowed(kind) && !moves(kind)) {
        return mask;
    }
    Mask(mask.0 & !Mask::ET)
}

/// Whether a file becomes ready after the call that made it so.
fn moves(kind: Kind) -> bool {
    matches!(kind, Kind::Tcp | Kind::TcpFresh | Kind::TcpListener | Kind::Udp | Kind::Child)
}

struct Trace {
    world: World,
    instances: Vec<Option<Fd>>,
    text: String,
}

/// Runs a script. Gives a line for each operation, with the labels of living objects, and what an epoll call gave.
pub fn trace(script: &[Op]) -> std::io::Result<String> {
    let mut trace = Trace { world: World::new()?, instances: Vec::new(), text: String::new() };
    for (step, op) in script.iter().enumerate() {
        let op = trace.world.resolved(*op, |label| {
            let count = trace.instances.len();
            living(label, count, |place| trace.instances[place].is_some()).unwrap_or(label)
        });
        let answer = trace.step(step, op).map_or(String::new(), |answer| format!(": {answer}"));
        let _ = writeln!(trace.text, "{step} {op}{answer}");
    }
    for label in 0..trace.instances.len() as u8 {
        if let Some(answer) = trace.wait(label, 16) {
            let _ = writeln!(trace.text, "at last e{label}: {answer}");
        }
    }
    Ok(std::mem::take(&mut trace.text))
}

impl Trace {
    fn instance(&self, label: u8) -> Option<Fd> {
        self.instances.get(usize::from(label)).copied().flatten()
    }

    fn step(&mut self, step: usize, op: Op) -> Option<String> {
        match op {
            Op::Instance => self.instances.push(sys::ours::create().ok()),
            Op::DupInstance(epoll) => {
                let fd = self.instance(epoll).and_then(|fd| sys::dup(fd).ok());
                self.instances.push(fd);
            }
            Op::CloseInstance(epoll) => {
                let _ = sys::close(self.instance(epoll)?);
                self.instances[usize::from(epoll)] = None;
            }
            Op::Ctl { epoll, action, target, mask } => {
                return self.ctl(step, epoll, action, target, mask);
            }
            Op::Wait { epoll, max } | Op::Rounds { epoll, max } => {
                return self.wait(epoll, usize::from(max.max(1)));
            }
            Op::Sleep { epoll, .. } => return self.wait(epoll, 16),
            Op::Beside { epoll, fd, errand } => return self.beside(epoll, fd, errand),
            Op::Poll { epoll } => {
                const ALL: i16 = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDNORM;
                let fd = self.instance(epoll)?;
                self.settle();
                return Some(format!("{:?}", sys::ours::poll(fd, ALL)));
            }
            Op::Select { epoll } => {
                let fd = self.instance(epoll)?;
                self.settle();
                return Some(format!("{:?}", sys::ours::select(fd)));
            }
            Op::Kill(fd) => {
                self.world.perform(op);
                self.expect_end(fd);
            }
            Op::Pause { .. } | Op::Fork { .. } | Op::CloseRange { .. } => {}
            op => self.world.perform(op),
        }
        None
    }

    fn ctl(
        &mut self,
        step: usize,
        epoll: u8,
        action: Action,
        target: Target,
        mask: Mask,
    ) -> Option<String> {
        let fd = self.instance(epoll)?;
        let number = match target {
            Target::File(label) => self.world.file(label)?.number,
            Target::Stale(label) => self.world.stale_number(label)?,
            Target::Instance(label) => self.instance(label)?,
            Target::None => -1,
        };
        let mask = traceable(mask, self.world.by_number(number).map(|file| file.kind));
        let data = step as u64 | if mask.is_once() { ONCE } else { 0 };
        let event = Event { events: mask.0, u64: data };
        let answer = sys::ours::ctl(fd, twin::number_of(action), number, event);
        Some(format!("{answer:?}"))
    }

    fn wait(&mut self, epoll: u8, max: usize) -> Option<String> {
        let fd = self.instance(epoll)?;
        self.settle();
        let mut told = Told::default();
        Some(said(told.collect(Twin::of_file(fd), Side::Ours, max), &told))
    }

    fn beside(&mut self, epoll: u8, file: u8, what: Errand) -> Option<String> {
        let before = self.wait(epoll, 256)?;
        let (fd, errand) = self.instance(epoll).zip(self.world.errand(file, what))?;
        let other = std::thread::spawn(move || {
            sleep(MOMENT);
            errand()
        });
        let twin = Twin::of_file(fd);
        let mut told = Told::default();
        // Levels that are high end this at once; they are asked for again afterwards.
        told.take(twin.wait(Side::Ours, 256, NAP).unwrap_or_default());
        drop(other.join());
        self.settle();
        let result = told.again(twin, Side::Ours, 256);
        Some(format!("{before}, then {}", said(result, &told)))
    }

    /// A child that was killed may need a while to end.
    fn expect_end(&self, fd: u8) {
        let Some(file) = self.world.file(fd).filter(|file| file.kind == Kind::Child) else {
            return;
        };
        for _ in 0..500 {
            if sys::kernel::poll(file.number, libc::POLLIN).is_ok_and(|found| found != 0) {
                return;
            }
            sleep(MOMENT);
        }
    }

    fn settle(&self) {
        if self.world.files.iter().flatten().any(|file| file.open && moves(file.kind)) {
            sleep(MOMENT);
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        for fd in self.instances.drain(..).flatten() {
            let _ = sys::close(fd);
        }
    }
}

fn said(result: Answer<()>, told: &Told) -> String {
    match result {
        Ok(()) => told.to_string(),
        Err(error) => format!("errno {error}"),
    }
}

/// The first line of each trace: whose epoll it is.
pub fn engine() -> Result<String, String> {
    let fd = sys::ours::create().map_err(|error| format!("epoll_create1 fails: errno {error}"))?;
    let name = if twin::is_kernels(fd) { "kernel" } else { "library" };
    let _ = sys::close(fd);
    Ok(format!("engine: {name}"))
}

/// The line before the trace of a seed.
pub fn heading(seed: u64) -> String {
    format!("seed {seed}")
}

/// This program twice over the same scripts: natively, and under the library.
pub struct Twice {
    program: PathBuf,
    command: PathBuf,
    /// Arguments that choose what scripts are made of.
    pub choice: Vec<String>,
}

/// Two traces of a script that differ.
pub struct Apart {
    pub seed: u64,
    pub native: String,
    pub preloaded: String,
}

impl Twice {
    pub fn new(choice: Vec<String>) -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        let command = program.with_file_name("uepoll");
        Ok(Self { program, command, choice })
    }

    /// The next seeds, at most a batch of them: how many were compared, and those that differ.
    pub fn batch(&self, seed: u64, count: u64) -> Result<(u64, Vec<Apart>), String> {
        let count = count.min(BATCH);
        let arguments = ["--seed", &seed.to_string(), "--scripts", &count.to_string()];
        let [native, preloaded] = self.both(&arguments.map(str::to_string))?;
        let headings: Vec<String> = (seed..seed + count).map(heading).collect();
        let mut apart = Vec::new();
        for (index, native_lines) in sections(&native, &headings).iter().enumerate() {
            let preloaded_lines = sections(&preloaded, &headings);
            let other = preloaded_lines.get(index).copied().unwrap_or_default();
            if let Some((one, other)) = first_difference(native_lines, other) {
                apart.push(Apart { seed: seed + index as u64, native: one, preloaded: other });
            }
        }
        Ok((count, apart))
    }

    /// Whether a difference shows each time. What depends on the moment may differ between two native processes too.
    pub fn is_sure(&self, seed: u64) -> Result<bool, String> {
        for _ in 0..SURE {
            let (_, apart) = self.batch(seed, 1)?;
            if apart.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The smallest script that was found with two different traces, with what differs.
    pub fn shrink(&self, script: &[Op]) -> String {
        let path = std::env::temp_dir().join(format!("uepoll-difftest.{}.txt", sys::process()));
        let start = Instant::now();
        let small = shrink::shrink_by(script, &mut |script| {
            if start.elapsed() > ENOUGH {
                return None;
            }
            self.apart(&path, script).map(|(native, _)| resolved(&native))
        });
        let apart = self.apart(&path, &small);
        let _ = std::fs::remove_file(&path);
        let Some((native, preloaded)) = apart else { return "# it did not show again\n".into() };
        let lines = first_difference(&native, &preloaded).unwrap_or_default();
        format!("# native    {}\n# preloaded {}\n{}", lines.0, lines.1, text::print(&small))
    }

    /// The traces of a script, if they differ. `path` is where it is put.
    fn apart(&self, path: &Path, script: &[Op]) -> Option<(String, String)> {
        std::fs::write(path, text::print(script)).ok()?;
        let arguments = ["--replay".to_string(), path.display().to_string()];
        let [native, preloaded] = self.both(&arguments).ok()?;
        (native != preloaded).then_some((native, preloaded))
    }

    /// What both say, without their first lines.
    fn both(&self, arguments: &[String]) -> Result<[String; 2], String> {
        let mut native = Command::new(&self.program);
        native.env_remove("LD_PRELOAD");
        let mut preloaded = Command::new(&self.command);
        preloaded.arg("run").arg("--").arg(&self.program).env_remove("LD_PRELOAD");
        let said = |mut command: Command, engine: &str| -> Result<String, String> {
            command.arg("--trace").args(&self.choice).args(arguments);
            let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let rest = text.strip_prefix(&format!("engine: {engine}\n"));
            let rest = rest.ok_or_else(|| format!("{command:?}: not the {engine}'s epoll"))?;
            if output.status.success() {
                return Ok(rest.to_string());
            }
            Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
        };
        Ok([said(native, "kernel")?, said(preloaded, "library")?])
    }
}

/// The script that a trace is of.
fn resolved(trace: &str) -> Vec<Op> {
    let op = |line: &str| {
        let (_, op) = line.split_once(' ')?;
        op.split(": ").next()?.parse().ok()
    };
    trace.lines().map_while(op).collect()
}

/// The texts between headings.
fn sections<'a>(text: &'a str, headings: &[String]) -> Vec<&'a str> {
    let mut rest = text;
    let mut found = Vec::new();
    for heading in headings.iter().rev() {
        let Some((before, section)) = rest.rsplit_once(&format!("{heading}\n")) else { break };
        found.push(section);
        rest = before;
    }
    found.reverse();
    found
}

/// The first lines that differ.
fn first_difference(native: &str, preloaded: &str) -> Option<(String, String)> {
    if native == preloaded {
        return None;
    }
    let end = || std::iter::repeat("(nothing)");
    let pairs = native.lines().chain(end()).zip(preloaded.lines().chain(end()));
    let longest = native.lines().count().max(preloaded.lines().count());
    let mut pairs = pairs.take(longest);
    pairs.find(|(one, other)| one != other).map(|(one, other)| (one.into(), other.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found() {
        let headings = ["seed 1".to_string(), "seed 2".to_string()];
        assert_eq!(sections("seed 1\na\nb\nseed 2\nc\n", &headings), ["a\nb\n", "c\n"]);
    }

    #[test]
    fn a_trace_tells_its_script() {
        let script = resolved("0 instance\n1 wait e0 16: nothing\nat last e0: nothing\n");
        assert_eq!(script, [Op::Instance, Op::Wait { epoll: 0, max: 16 }]);
    }

    #[test]
    fn the_first_difference_is_found() {
        let found = first_difference("a\nb\n", "a\nc\n");
        assert_eq!(found, Some(("b".to_string(), "c".to_string())));
        assert_eq!(first_difference("a\n", "a\n"), None);
        let found = first_difference("a\n", "a\nc\n");
        assert_eq!(found, Some(("(nothing)".to_string(), "c".to_string())));
    }
}
