//! The table on standard output, and the same as JSON.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::pairs::{Better, Case, Measured, Outcome, Spread, Verdict};
use crate::setup::Setup;
use crate::size::LibrarySize;

/// More load than this before the start, and something else is being measured too; and more of the machine taken by
/// others during a case, and its row says so.
const QUIET_LOAD: f64 = 0.3;
const QUIET_SHARE: f64 = 0.05;

/// A case that was measured.
pub struct Row {
    pub name: String,
    pub about: String,
    pub metrics: Vec<Measured>,
    /// Other programs took so much of the machine meanwhile that the row should be measured again.
    pub busy: bool,
}

pub struct Report {
    begin: Instant,
    native_only: bool,
    load_before: f64,
    cases: Vec<Value>,
    rows: Vec<Row>,
    library: Option<Value>,
    head: Value,
    measured: usize,
    skipped: usize,
    failed: usize,
    missed: usize,
}

impl Report {
    /// Prints the head of the table.
    pub fn begin(setup: &Setup) -> Report {
        let load_before = load();
        let second = if setup.native_only() { "native again" } else { "preloaded" };
        let head = json!({
            "machine": machine(),
            "unix_time": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "quick": setup.quick,
            "pairs": setup.pairs,
            "second_side": second,
        });
        println!(
            "{}; {} pairs; load {load_before:.2}",
            head["machine"]["summary"].as_str().unwrap_or(""),
            setup.pairs
        );
        if load_before > QUIET_LOAD {
            println!("note: this machine is busy with something else; expect wide spreads");
        }
        if setup.native_only() {
            println!("note: both sides are native; what differs from 1.00 is noise");
        }
        println!();
        println!(
            "{:<22} {:<15} {:>11} {:>12} {:>7} {:>15}   wanted",
            "case", "metric", "native", second, "ratio", "(min .. max)"
        );
        Report {
            begin: Instant::now(),
            native_only: setup.native_only(),
            load_before,
            cases: Vec::new(),
            rows: Vec::new(),
            library: None,
            head,
            measured: 0,
            skipped: 0,
            failed: 0,
            missed: 0,
        }
    }

    /// Names a case before it runs, so that a reader knows what is going on (or hangs).
    pub fn announce(&self, name: &str) {
        print!("{name:<22} ");
        // Only a convenience: a closed standard output shows at the next line anyway.
        let _ = io::stdout().flush();
    }

    pub fn add(&mut self, case: &dyn Case, outcome: Outcome) {
        let wanted_figures = case.metrics().iter().filter(|metric| metric.wanted.is_some()).count();
        let result = match outcome {
            Outcome::Measured { metrics, others } => {
                self.measured += 1;
                for (row, measured) in metrics.iter().enumerate() {
                    // The kernel twice says nothing about the library.
                    let verdict = measured.verdict().filter(|_| !self.native_only);
                    self.missed += usize::from(verdict == Some(Verdict::Missed));
                    if row > 0 {
                        print!("{:<22} ", "");
                    }
                    let busy = if row == 0 && others > QUIET_SHARE {
                        format!("   [others took {:.0} % of the machine]", others * 100.0)
                    } else {
                        String::new()
                    };
                    println!("{}{busy}", line(measured, verdict));
                }
                let values: Vec<Value> = metrics.iter().map(metric_json).collect();
                self.rows.push(Row {
                    name: case.name().into(),
                    about: case.about(),
                    metrics,
                    busy: others > QUIET_SHARE,
                });
                json!({ "outcome": "measured", "others_share": others, "metrics": values })
            }
            Outcome::Skipped(why) => {
                self.skipped += 1;
                self.missed += wanted_figures;
                println!("skipped: {why}");
                json!({ "outcome": "skipped", "why": why })
            }
            Outcome::Failed(why) => {
                self.failed += 1;
                self.missed += wanted_figures;
                println!("FAILED: {why}");
                json!({ "outcome": "failed", "why": why })
            }
        };
        self.cases.push(json!({ "case": case.name(), "about": case.about(), "result": result }));
    }

    pub fn library(&mut self, size: Result<LibrarySize, String>) {
        println!();
        match size {
            Ok(size) => {
                println!("library: {size}");
                self.library = Some(
                    json!({ "bytes": size.bytes, "stripped": size.stripped, "profile": size.profile }),
                );
            }
            Err(why) => println!("library: size not measured: {why}"),
        }
    }

    /// Prints the last lines.
    pub fn end(&self) {
        if !self.native_only {
            self.name_missed();
        }
        println!(
            "{} measured, {} skipped, {} failed, {} wanted figures missed; {} s; ratios are preloaded / native",
            self.measured,
            self.skipped,
            self.failed,
            self.missed,
            self.begin.elapsed().as_secs()
        );
    }

    /// Once more together: they are scattered over a long table.
    fn name_missed(&self) {
        for row in &self.rows {
            for measured in &row.metrics {
                let (Some(wanted), Some(Verdict::Missed)) =
                    (measured.metric.wanted, measured.verdict())
                else {
                    continue;
                };
                let found =
                    wanted.found(measured).map_or("no ratio".into(), |found| format!("{found:.3}"));
                let busy = if row.busy { ", on a busy machine" } else { "" };
                println!(
                    "missed: {}, {}: {wanted} is wanted, found {found}{busy}",
                    row.name, measured.metric.name
                );
            }
        }
    }

    pub fn measured(&self) -> usize {
        self.measured
    }

    pub fn failed(&self) -> usize {
        self.failed
    }

    pub fn missed(&self) -> usize {
        self.missed
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What the files of this run are called, each with its own ending.
    pub fn stem(&self) -> String {
        self.head["unix_time"].to_string()
    }

    /// How and where it was measured, in one line.
    pub fn circumstances(&self) -> String {
        format!(
            "{} pairs{}; {}; load before {:.2}",
            self.head["pairs"],
            if self.head["quick"] == true { ", short ones (`--quick`)" } else { "" },
            self.head["machine"]["summary"].as_str().unwrap_or_default(),
            self.load_before
        )
    }

    /// One file for each run, named by its time.
    pub fn write_json(&self, directory: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(directory)?;
        let mut whole = self.head.clone();
        whole["load_before"] = json!(self.load_before);
        whole["seconds"] = json!(self.begin.elapsed().as_secs());
        whole["cases"] = Value::Array(self.cases.clone());
        whole["library"] = self.library.clone().unwrap_or(Value::Null);
        let path = directory.join(format!("{}.json", self.stem()));
        fs::write(&path, format!("{whole:#}\n"))?;
        Ok(path)
    }
}

fn line(measured: &Measured, verdict: Option<Verdict>) -> String {
    let (ratio, spread) = match measured.ratio {
        Some(ratio) => (
            format!("{:.3}", ratio.median),
            format!("({:.2} .. {:.2})", ratio.lowest, ratio.highest),
        ),
        None => ("-".into(), String::new()),
    };
    let wanted = measured.metric.wanted.map(|wanted| wanted.to_string()).unwrap_or_default();
    let verdict = verdict.map_or("", Verdict::said);
    let line = format!(
        "{:<15} {:>11} {:>12} {ratio:>7} {spread:>15}   {wanted} {verdict}",
        measured.metric.name,
        figure(measured.native.median),
        figure(measured.preloaded.median),
    );
    line.trim_end().to_string()
}

/// A number with as many digits as are worth reading.
pub fn figure(number: f64) -> String {
    let decimals = match number.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{number:.decimals$}")
}

fn metric_json(measured: &Measured) -> Value {
    json!({
        "metric": measured.metric.name,
        "better": match measured.metric.better { Better::Higher => "higher", Better::Lower => "lower" },
        "pairs": measured.pairs,
        "native": spread_json(&measured.native),
        "preloaded": spread_json(&measured.preloaded),
        "ratio": measured.ratio.as_ref().map(spread_json),
        "more": spread_json(&measured.more),
        "wanted": measured.metric.wanted.map(|wanted| json!({
            "figure": wanted.to_string(),
            "verdict": measured.verdict().map(Verdict::said),
        })),
    })
}

fn spread_json(spread: &Spread) -> Value {
    json!({ "median": spread.median, "min": spread.lowest, "max": spread.highest })
}

fn machine() -> Value {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    let description = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        description.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let summary = format!("{processors} x {model}, Linux {release}");
    json!({ "summary": summary, "processors": processors, "model": model, "kernel": release })
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        let printed = [0.0, 1.234, 12.34, 123.4, 123_456.7].map(figure);
        assert_eq!(printed, ["0.00", "1.23", "12.3", "123", "123457"]);
    }
}
