//! The command line.

use std::path::{Path, PathBuf};

pub const HELP: &str = "\
usage: uepoll-bench [--quick] [--case NAME] [--pairs N] [--check] [--list] [--results DIR]
                    [--table FILE]

  --quick        fewer cases, three short pairs each: about a minute; without it, ten
  --case NAME    only the case NAME, or all whose name contains NAME
  --pairs N      N pairs for each case (default: 5, with --quick 3)
  --check        exit with 2 when a wanted figure is missed or was not measured
  --list         print the names of the cases
  --results DIR  where JSON and plots go (default: bench/results, when there is a bench/ here)
  --table FILE   write the table into FILE, between its marks (as in docs/PERFORMANCE.md)

exit status: 0 measured; 1 a case failed to run, or all were skipped;
             2 a wanted figure was missed (--check); 64 usage
";

/// Pairs for each case: five for a figure that is quoted, three for a look.
const PAIRS: usize = 5;
const PAIRS_QUICK: usize = 3;

#[derive(Debug, PartialEq)]
pub enum Request {
    Help,
    Run(Options),
}

#[derive(Debug, Default, PartialEq)]
pub struct Options {
    pub quick: bool,
    pub check: bool,
    pub list: bool,
    pub case: Option<String>,
    pub pairs: Option<usize>,
    pub results: Option<PathBuf>,
    pub table: Option<PathBuf>,
    /// Not in the help: both sides run natively, which measures the noise of the bench itself.
    pub native_only: bool,
}

impl Options {
    pub fn pairs(&self) -> usize {
        self.pairs.unwrap_or(if self.quick { PAIRS_QUICK } else { PAIRS })
    }

    /// None: the results are only printed.
    pub fn results_directory(&self) -> Option<PathBuf> {
        let default = || Path::new("bench").is_dir().then(|| PathBuf::from("bench/results"));
        self.results.clone().or_else(default)
    }
}

pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let mut options = Options::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(Request::Help),
            "--quick" => options.quick = true,
            "--check" => options.check = true,
            "--list" => options.list = true,
            "--native-only" => options.native_only = true,
            "--case" => options.case = Some(value()?),
            "--results" => options.results = Some(PathBuf::from(value()?)),
            "--table" => options.table = Some(PathBuf::from(value()?)),
            "--pairs" => {
                let count = value()?;
                match count.parse() {
                    Ok(count) if count > 0 => options.pairs = Some(count),
                    _ => return Err(format!("--pairs wants a positive number, not {count:?}")),
                }
            }
            _ => return Err(format!("unknown option {argument:?}")),
        }
    }
    if options.check && options.native_only {
        return Err("--check judges the library, which --native-only leaves out".into());
    }
    if options.table.is_some() && (options.case.is_some() || options.native_only) {
        return Err("--table replaces the whole table, so it wants all cases on both sides".into());
    }
    Ok(Request::Run(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn defaults_and_values() {
        let Ok(Request::Run(plain)) = parsed("") else { panic!("no options is a request to run") };
        assert_eq!(plain.pairs(), PAIRS);
        let Ok(Request::Run(full)) = parsed("--quick --case nginx --pairs 7 --check") else {
            panic!("all are known")
        };
        assert_eq!((full.quick, full.check, full.pairs()), (true, true, 7));
        assert_eq!(full.case.as_deref(), Some("nginx"));
    }

    #[test]
    fn refusals() {
        for line in [
            "--pairs 0",
            "--pairs",
            "--pairs x",
            "--case",
            "--fast",
            "nginx",
            "--check --native-only",
            "--table file --case nginx",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
