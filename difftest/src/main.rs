//! The differential tester: random scripts of I/O, with every epoll call made twice, of the preloaded library and of
//! the kernel, in one process over the same descriptors.
//!
//! It runs under the library: `uepoll run -- uepoll-difftest`. libc's epoll functions are then the library's; the
//! kernel's are reached by system calls in line. Read first: `script.rs`, what can happen; `run.rs`, how it is done to
//! both; `compare.rs`, what counts as the same.

mod compare;
mod echo;
mod excuse;
mod generate;
mod mask;
mod run;
mod script;
mod shrink;
mod sys;
mod text;
mod threads;
mod trace;
mod twin;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

use compare::Difference;
use echo::Echoes;
use generate::Wishes;
use mask::Mask;
use run::{Outcome, Statistics};
use script::{Kind, Op};
use threads::Amounts;
use trace::{Apart, Twice};
use twin::Twin;

/// A script that takes longer hangs. Seconds.
const LIMIT: u32 = 30;

/// What depends on time may need a few runs to show again.
const AGAIN: usize = 5;

/// Kinds of files of which the library knows when each became ready, docs/limits.md, "Order of readiness".
const ORDERED: [Kind; 6] = [
    Kind::Pipe,
    Kind::UnixStream,
    Kind::UnixDatagram,
    Kind::UnixPackets,
    Kind::Eventfd,
    Kind::Semaphore,
];

/// The seed of the script that runs, for the words of a hang.
static RUNNING: AtomicU64 = AtomicU64::new(0);

/// Compares the library's epoll with the kernel's by random scripts. Runs under the library only.
#[derive(Parser)]
#[command(name = "uepoll-difftest")]
struct Arguments {
    /// The first script's seed; each further script has the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many scripts.
    #[arg(long, default_value_t = 500)]
    scripts: u64,
    /// Operations of each script, about.
    #[arg(long, default_value_t = 100)]
    ops: usize,
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Only these kinds of descriptors, with commas between.
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    kinds: Vec<Kind>,
    /// Never do these operations (first words of the script's lines), with commas between.
    #[arg(long, value_delimiter = ',')]
    without_ops: Vec<String>,
    /// Never ask for these events, as IN|ET.
    #[arg(long)]
    without_bits: Option<Mask>,
    /// Run this script only.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Print the script of the seed, and run nothing.
    #[arg(long)]
    print: bool,
    /// Scripts that are run first.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions"))]
    regressions: PathBuf,
    /// Give the slower side no time: right for kinds that do not move by themselves.
    #[arg(long)]
    promptly: bool,
    /// Compare the order of events too, and be prompt, on kinds whose order is known: pipes, UNIX pairs, eventfds.
    #[arg(long)]
    order: bool,
    /// Say how often what was done.
    #[arg(long)]
    stats: bool,
    /// Show echoes as differences, shrunk, instead of excusing them.
    #[arg(long)]
    show_echoes: bool,
    /// Instead of scripts: runs of several threads at once, of which is checked what must hold of any epoll.
    #[arg(long)]
    threads: bool,
    /// Compare nothing: print what libc's epoll calls gave, natively or under the library. Edge-triggered are only items
    /// of pipes, eventfds and other files whose edges both must tell alike; there are no timers, no terminals, no fork.
    #[arg(long)]
    trace: bool,
    /// Start itself with --trace, natively and by the command `uepoll` beside it, and compare.
    #[arg(long)]
    twice: bool,
    /// Go on after a difference.
    #[arg(long)]
    keep_going: bool,
}

impl Arguments {
    /// What scripts are made of, as arguments.
    fn choice(&self) -> Vec<String> {
        let mut choice = vec![format!("--ops={}", self.ops)];
        let list = |all: Vec<String>| (!all.is_empty()).then(|| all.join(","));
        let kinds = list(self.kinds.iter().map(Kind::to_string).collect());
        choice.extend(kinds.map(|kinds| format!("--kinds={kinds}")));
        choice.extend(list(self.without_ops.clone()).map(|ops| format!("--without-ops={ops}")));
        choice.extend(self.without_bits.map(|mask| format!("--without-bits={mask}")));
        choice
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    text.parse()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut wishes = Wishes {
        without_bits: arguments.without_bits.map_or(0, |mask| mask.0),
        without_ops: arguments.without_ops.clone(),
        ..Wishes::default()
    };
    if !arguments.kinds.is_empty() {
        wishes.kinds.clone_from(&arguments.kinds);
    }
    if arguments.order && arguments.kinds.is_empty() {
        wishes.kinds = ORDERED.to_vec();
    }
    if arguments.print {
        print!("{}", text::print(&generate::script(arguments.seed, arguments.ops, &wishes)));
        return ExitCode::SUCCESS;
    }
    if arguments.trace || arguments.twice {
        trace::wishes(&mut wishes);
        let done =
            if arguments.twice { twice(&arguments, &wishes) } else { traces(&arguments, &wishes) };
        return done.unwrap_or_else(|error| {
            eprintln!("uepoll-difftest: {error}");
            ExitCode::from(2)
        });
    }
    compare::PROMPTLY.store(arguments.promptly || arguments.order, Ordering::Relaxed);
    compare::ORDERLY.store(arguments.order, Ordering::Relaxed);
    if arguments.threads {
        return prepare().and_then(|()| threaded(&arguments)).unwrap_or_else(|error| {
            eprintln!("uepoll-difftest: {error}");
            ExitCode::from(2)
        });
    }
    let mut tally = Tally::default();
    match prepare().and_then(|()| all(&arguments, &wishes, &mut tally)) {
        Ok(()) => {}
        Err(error) => {
            eprintln!("uepoll-difftest: {error}");
            return ExitCode::from(2);
        }
    }
    tally.print(arguments.stats);
    if tally.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the traces of all scripts.
fn traces(arguments: &Arguments, wishes: &Wishes) -> Result<ExitCode, String> {
    sys::block_user_signals().map_err(|error| format!("sigprocmask fails: errno {error}"))?;
    println!("{}", trace::engine()?);
    let print = |script: &[Op], seed| {
        RUNNING.store(seed, Ordering::Relaxed);
        sys::alarm(LIMIT, hung);
        let text = trace::trace(script).map_err(|error| error.to_string())?;
        print!("{text}");
        Ok::<(), String>(())
    };
    if let Some(path) = &arguments.replay {
        print(&read_script(path)?, 0)?;
        return Ok(ExitCode::SUCCESS);
    }
    for seed in (arguments.seed..).take(arguments.scripts as usize) {
        println!("{}", trace::heading(seed));
        print(&generate::script(seed, arguments.ops, wishes), seed)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs of several threads.
fn threaded(arguments: &Arguments) -> Result<ExitCode, String> {
    let start = Instant::now();
    let limit = arguments.seconds.map_or(Duration::MAX, Duration::from_secs);
    let (mut amounts, mut differences) = (Amounts::default(), 0);
    for seed in (arguments.seed..).take(arguments.scripts as usize) {
        if start.elapsed() >= limit || (differences > 0 && !arguments.keep_going) {
            break;
        }
        RUNNING.store(seed, Ordering::Relaxed);
        sys::alarm(LIMIT, hung);
        let faults = threads::run(seed, &mut amounts).map_err(|error| format!("errno {error}"))?;
        sys::alarm(0, hung);
        faults.iter().for_each(|fault| println!("seed {seed}: {fault}"));
        differences += u64::from(!faults.is_empty());
    }
    let Amounts { runs, writes, threads } = amounts;
    println!(
        "{runs} runs, {threads} threads, {writes} writes, {differences} runs with a difference"
    );
    Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares traces of this program, native and preloaded.
fn twice(arguments: &Arguments, wishes: &Wishes) -> Result<ExitCode, String> {
    let twice = Twice::new(arguments.choice()).map_err(|error| error.to_string())?;
    let start = Instant::now();
    let limit = arguments.seconds.map_or(Duration::MAX, Duration::from_secs);
    let (mut scripts, mut differences, mut unsure) = (0, 0, 0);
    while scripts < arguments.scripts && start.elapsed() < limit {
        let (count, apart) = twice.batch(arguments.seed + scripts, arguments.scripts - scripts)?;
        scripts += count;
        for Apart { seed, native, preloaded } in &apart {
            println!("seed {seed}: native    {native}\nseed {seed}: preloaded {preloaded}");
            if !twice.is_sure(*seed)? {
                println!("# not each time\n");
                unsure += 1;
                continue;
            }
            differences += 1;
            let script = generate::script(*seed, arguments.ops, wishes);
            println!("{}", twice.shrink(&script));
        }
        if differences > 0 && !arguments.keep_going {
            break;
        }
    }
    println!("{scripts} scripts traced twice, {differences} differences, {unsure} not each time");
    Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sees that there are two engines to compare.
fn prepare() -> Result<(), String> {
    sys::block_user_signals().map_err(|error| format!("sigprocmask fails: errno {error}"))?;
    let twin = Twin::new(0).map_err(|error| format!("epoll_create1 fails: errno {error}"))?;
    let differs = twin.differs();
    twin.close();
    if differs {
        return Ok(());
    }
    Err("both engines are the kernel's: start it by `uepoll run -- uepoll-difftest`".into())
}

fn all(arguments: &Arguments, wishes: &Wishes, tally: &mut Tally) -> Result<(), String> {
    if let Some(path) = &arguments.replay {
        return tally.regression(path);
    }
    for path in scripts_in(&arguments.regressions) {
        tally.regression(&path)?;
    }
    let echoes = if arguments.show_echoes { Echoes::Shown } else { Echoes::Excused };
    let start = Instant::now();
    let limit = arguments.seconds.map_or(Duration::MAX, Duration::from_secs);
    for seed in (arguments.seed..).take(arguments.scripts as usize) {
        if start.elapsed() >= limit || (tally.differences > 0 && !arguments.keep_going) {
            break;
        }
        let script = generate::script(seed, arguments.ops, wishes);
        tally.script(&script, &format!("seed {seed}"), Some(seed), echoes)?;
    }
    Ok(())
}

/// The scripts of a directory, by name. None if there is no such directory.
fn scripts_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths
}

fn read_script(path: &Path) -> Result<Vec<Op>, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    text::parse(&text).map_err(|error| format!("{name}: {error}"))
}

/// What has been found so far.
#[derive(Default)]
struct Tally {
    statistics: Statistics,
    differences: u64,
}

impl Tally {
    fn regression(&mut self, path: &Path) -> Result<(), String> {
        let name = path.display().to_string();
        self.script(&read_script(path)?, &name, None, Echoes::Forbidden)
    }

    fn script(
        &mut self,
        script: &[Op],
        name: &str,
        seed: Option<u64>,
        echoes: Echoes,
    ) -> Result<(), String> {
        let outcome = guarded(script, seed.unwrap_or(0), echoes, &mut self.statistics)?;
        let Some((step, difference)) = outcome.difference else { return Ok(()) };
        self.differences += 1;
        println!("{name}: after operation {step}: {difference}");
        if let Some(seed) = seed {
            report(&outcome.resolved, &difference, seed, echoes)?;
        }
        Ok(())
    }

    fn print(&self, whole: bool) {
        let Statistics { scripts, operations, controls, waits, late, echoes, between } =
            self.statistics;
        println!(
            "{scripts} scripts, {operations} operations, {waits} compared waits, {late} late, {} echoes, {} differences",
            echoes.iter().sum::<u64>(),
            self.differences
        );
        if whole {
            println!("{controls} compared epoll_ctl calls");
            println!("{between} events of connections came between the sides' waits");
            for (kind, name) in Kind::ALL {
                match echoes[kind as usize] {
                    0 => {}
                    count => println!("{count} echoes of {name}"),
                }
            }
        }
    }
}

/// Shrinks a script and prints what is left of it.
fn report(script: &[Op], difference: &Difference, seed: u64, echoes: Echoes) -> Result<(), String> {
    sys::alarm(20 * LIMIT, hung);
    let small = shrink::shrink(script, difference.fault, echoes);
    for _ in 0..AGAIN {
        let shown = guarded(&small, seed, echoes, &mut Statistics::default())?;
        if let Some((step, again)) = shown.difference {
            println!("# after operation {step}: {again}\n{}", text::print(&shown.resolved));
            return Ok(());
        }
    }
    println!("# it did not show again; as it was:\n{}", text::print(&small));
    Ok(())
}

fn guarded(
    script: &[Op],
    seed: u64,
    echoes: Echoes,
    statistics: &mut Statistics,
) -> Result<Outcome, String> {
    RUNNING.store(seed, Ordering::Relaxed);
    sys::alarm(LIMIT, hung);
    let outcome = run::run(script, echoes, statistics).map_err(|error| error.to_string());
    sys::alarm(0, hung);
    outcome
}

/// The alarm's handler.
extern "C" fn hung(_: i32) {
    let mut text = *b"uepoll-difftest: hang; seed                     \n";
    let mut seed = RUNNING.load(Ordering::Relaxed);
    for digit in text[28..48].iter_mut().rev() {
        *digit = b'0' + (seed % 10) as u8;
        seed /= 10;
        if seed == 0 {
            break;
        }
    }
    sys::last_words(&text);
}
