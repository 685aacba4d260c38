//! `uepoll-budget`: how many instructions the library spends on an operation, against a baseline that is in git.
//!
//! No clock is read, so that a busy machine changes nothing: a program does an operation N times and 2N times under
//! callgrind, and the difference is what N operations take. Counted are the instructions inside the library and the
//! system calls of the process.

mod callgrind;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

const HELP: &str = "\
usage: uepoll-budget [--renew] [--baseline FILE]

Counts instructions and system calls of single operations under callgrind and compares them with FILE (default:
bench/baseline.json). Fails when one takes more than 10 % over it. --renew writes the file anew instead.
";
/// What an operation may grow by. Compilers and neighbouring code move a count by a few percent.
const GROWTH: f64 = 1.10;
/// A count that fell below this share makes the baseline too generous to guard it.
const SHRUNK: f64 = 0.90;

/// Name in the baseline, operation of `uepoll-micro count`, N.
const OPERATIONS: [(&str, &str, u64); 8] = [
    ("epoll_ctl ADD", "add", 1000),
    ("epoll_ctl MOD", "mod", 1000),
    ("epoll_ctl DEL", "del", 1000),
    ("write, unwatched", "write-unwatched", 1000),
    ("read, unwatched", "read-unwatched", 1000),
    ("epoll_wait, 1 ready of 16", "wait-1-of-16", 1000),
    ("epoll_wait, 64 ready of 64", "wait-64-of-64", 500),
    ("edge of 16: write, epoll_wait, read", "edge-1-of-16", 1000),
];

#[derive(Serialize, Deserialize)]
struct Baseline {
    /// Another compiler makes other counts; a failure says so.
    compiler: String,
    operations: BTreeMap<String, Budget>,
}

/// Of one operation.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Budget {
    instructions: f64,
    system_calls: f64,
}

fn main() -> ExitCode {
    let mut renew = false;
    let mut file = PathBuf::from("bench/baseline.json");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), argument == "--baseline") {
            ("--help" | "-h", _) => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            ("--renew", _) => renew = true,
            (_, true) => match arguments.next() {
                Some(name) => file = PathBuf::from(name),
                None => return misused("--baseline needs a file"),
            },
            _ => return misused(&format!("unknown option {argument:?}")),
        }
    }
    let result = measure().and_then(|found| {
        if renew { write(&file, &found).map(|()| true) } else { compare(&file, &found) }
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("uepoll-budget: {why}");
            ExitCode::FAILURE
        }
    }
}

fn misused(why: &str) -> ExitCode {
    eprint!("uepoll-budget: {why}\n{HELP}");
    ExitCode::from(64)
}

fn measure() -> Result<Baseline, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = here.with_file_name("uepoll-micro");
    let library = here.with_file_name("libuepoll.so");
    if !library.exists() {
        return Err(format!("{} is missing: run `make build` first", library.display()));
    }
    // Without it the budget has not been kept, whatever the reason.
    printed(Command::new("valgrind").arg("--version")).map_err(|error| {
        format!(
            "{error}: install valgrind (scripts/install-test-deps.sh, or apt-get install valgrind)"
        )
    })?;
    let mut operations = BTreeMap::new();
    for (name, operation, times) in OPERATIONS {
        let cost = |times: u64| {
            callgrind::run(&program, &["count", operation, &times.to_string()], &library)
                .map_err(|why| format!("{name}: {why}"))
        };
        let (once, twice) = (cost(times)?, cost(2 * times)?);
        let each = |once: u64, twice: u64| (twice as f64 - once as f64) / times as f64;
        let budget = Budget {
            instructions: each(once.instructions, twice.instructions),
            system_calls: each(once.system_calls, twice.system_calls),
        };
        operations.insert(name.to_string(), budget);
    }
    let compiler = printed(Command::new("rustc").arg("--version")).unwrap_or_default();
    Ok(Baseline { compiler, operations })
}

fn printed(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn write(file: &Path, found: &Baseline) -> Result<(), String> {
    let text = serde_json::to_string_pretty(found).map_err(|error| error.to_string())?;
    fs::write(file, text + "\n").map_err(|error| format!("{}: {error}", file.display()))?;
    println!(
        "{} is renewed: commit it, and say in the message what made the counts change",
        file.display()
    );
    Ok(())
}

/// False when something grew too much, or is not in the baseline.
fn compare(file: &Path, found: &Baseline) -> Result<bool, String> {
    let described = |error: &dyn std::fmt::Display| {
        format!("{}: {error} (uepoll-budget --renew writes it)", file.display())
    };
    let text = fs::read_to_string(file).map_err(|error| described(&error))?;
    let baseline: Baseline = serde_json::from_str(&text).map_err(|error| described(&error))?;
    println!(
        "{:<36} {:>12} {:>9} {:>7}   system calls",
        "an operation", "instructions", "baseline", "ratio"
    );
    let mut verdicts = Vec::new();
    for (name, now) in &found.operations {
        let before = baseline.operations.get(name).copied();
        let verdict = Verdict::of(before, *now);
        let before = before.unwrap_or(Budget { instructions: f64::NAN, system_calls: f64::NAN });
        println!(
            "{name:<36} {:>12.1} {:>9.1} {:>7.3}   {:.1} (baseline {:.1}){}",
            now.instructions,
            before.instructions,
            now.instructions / before.instructions,
            now.system_calls,
            before.system_calls,
            verdict.said(),
        );
        verdicts.push(verdict);
    }
    let kept = !verdicts.contains(&Verdict::Over) && !verdicts.contains(&Verdict::Unknown);
    if !kept {
        println!(
            "The budget is exceeded. If the growth is worth its price, renew the baseline in the same commit:\n    \
             make budget-renew"
        );
        if baseline.compiler != found.compiler {
            println!("The baseline was made by {}, this by {}.", baseline.compiler, found.compiler);
        }
    } else if verdicts.contains(&Verdict::Under) {
        println!("Some take much less than before: `make budget-renew` makes that the new budget.");
    }
    Ok(kept)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Kept,
    Under,
    Over,
    Unknown,
}

impl Verdict {
    fn of(before: Option<Budget>, now: Budget) -> Verdict {
        let Some(before) = before else {
            return Verdict::Unknown;
        };
        // Where there was none, one system call in ten operations is growth.
        let over = now.instructions > before.instructions * GROWTH
            || now.system_calls > (before.system_calls * GROWTH).max(0.1);
        let under = now.instructions < before.instructions * SHRUNK
            || now.system_calls < before.system_calls * SHRUNK;
        match (over, under) {
            (true, _) => Verdict::Over,
            (false, true) => Verdict::Under,
            (false, false) => Verdict::Kept,
        }
    }

    fn said(self) -> &'static str {
        match self {
            Verdict::Kept => "",
            Verdict::Under => " less",
            Verdict::Over => " TOO MUCH",
            Verdict::Unknown => " NOT IN THE BASELINE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let budget = |instructions, system_calls| Budget { instructions, system_calls };
        let before = Some(budget(100.0, 0.0));
        for (now, verdict) in [
            (budget(109.0, 0.0), Verdict::Kept),
            (budget(111.0, 0.0), Verdict::Over),
            (budget(80.0, 0.0), Verdict::Under),
            (budget(80.0, 1.0), Verdict::Over),
        ] {
            assert_eq!(Verdict::of(before, now), verdict);
        }
        assert_eq!(Verdict::of(None, budget(1.0, 0.0)), Verdict::Unknown);
    }
}
