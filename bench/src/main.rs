//! `uepoll-bench`: unmodified programs on the kernel's epoll and on the preloaded library, side by side.
//!
//! Each case is measured in interleaved pairs (native, preloaded, native, preloaded, ...). A pair shares the weather of
//! the machine, so what is compared is the ratio inside each pair; printed are the median of these ratios and their
//! lowest and highest. The order of the files: `pairs` (what a case is, and the statistics), `run` (programs with a time
//! limit), `servers` (starting, watching, stopping), one file for each family of cases, `load` (a load generator), `report` (what is
//! printed, and JSON), `plots`, `table`.

mod load;
mod memcached;
mod micro;
mod nginx;
mod options;
mod pairs;
mod plots;
mod processes;
mod redis;
mod report;
mod run;
mod servers;
mod setup;
mod size;
mod startup;
mod table;

use std::process::ExitCode;

use options::{Options, Request};
use pairs::{Case, Outcome};
use report::Report;
use setup::Setup;

/// A case failed to run, or nothing was measured.
const EXIT_FAILED: u8 = 1;
/// Everything was measured, and a wanted figure was missed (only with `--check`).
const EXIT_MISSED: u8 = 2;
/// The command line was not understood.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Request::Help) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Request::Run(options)) => options,
        Err(message) => {
            eprintln!("uepoll-bench: {message}\n\n{}", options::HELP);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let cases = match chosen(&options) {
        Ok(cases) => cases,
        Err(message) => {
            eprintln!("uepoll-bench: {message}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if options.list {
        for case in &cases {
            println!("{:<22} {}", case.name(), case.about());
        }
        return ExitCode::SUCCESS;
    }
    match measure(&options, &cases) {
        Ok(report) => verdict(&options, &report),
        Err(message) => {
            eprintln!("uepoll-bench: {message}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// The cases that the options ask for; none is an error, for a mistyped filter must not look like a success.
fn chosen(options: &Options) -> Result<Vec<Box<dyn Case>>, String> {
    let mut all: Vec<Box<dyn Case>> = Vec::new();
    all.extend(nginx::cases());
    all.extend(redis::cases());
    all.extend(memcached::cases());
    all.extend(micro::cases());
    all.extend(startup::cases());
    let Some(wanted) = &options.case else {
        all.retain(|case| !options.quick || options.list || case.in_quick());
        return Ok(all);
    };
    // A whole name means that case alone: `nginx-1` is also the beginning of `nginx-1000`.
    if all.iter().any(|case| case.name() == wanted) {
        all.retain(|case| case.name() == wanted);
    } else {
        all.retain(|case| case.name().contains(wanted.as_str()));
    }
    if all.is_empty() {
        return Err(format!("no case is named like {wanted:?}; --list shows them"));
    }
    Ok(all)
}

fn measure(options: &Options, cases: &[Box<dyn Case>]) -> Result<Report, String> {
    let setup = Setup::new(options)?;
    let mut report = Report::begin(&setup);
    for case in cases {
        report.announce(case.name());
        let outcome = match setup::missing(case.needs()) {
            Some(tool) => Outcome::Skipped(format!("{tool} is not installed")),
            None => pairs::measure(case.as_ref(), &setup),
        };
        report.add(case.as_ref(), outcome);
    }
    report.library(size::library(&setup));
    report.end();
    if let Some(directory) = options.results_directory() {
        match report.write_json(&directory) {
            Ok(path) => println!("results: {}", path.display()),
            Err(error) => return Err(format!("{}: {error}", directory.display())),
        }
        for path in plots::write(&report, &directory)? {
            println!("plot: {}", path.display());
        }
    }
    if let Some(file) = &options.table {
        table::write(&report, file).map_err(|error| format!("{}: {error}", file.display()))?;
        println!("table: {}", file.display());
    }
    Ok(report)
}

fn verdict(options: &Options, report: &Report) -> ExitCode {
    // All skipped is not a success either: then nothing was measured.
    if report.failed() > 0 || report.measured() == 0 {
        return ExitCode::from(EXIT_FAILED);
    }
    // A figure that was not measured was not reached either: a skipped case counts as missed.
    if options.check && report.missed() > 0 {
        return ExitCode::from(EXIT_MISSED);
    }
    ExitCode::SUCCESS
}
