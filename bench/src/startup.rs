//! What it costs to start a program that does nothing.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::pairs::{Better, Case, Metric, Wanted};
use crate::run;
use crate::setup::{self, Setup, Side};

const LIMIT: Duration = Duration::from_secs(10);

struct Startup {
    name: &'static str,
    about: &'static str,
    wanted: Option<Wanted>,
    command: fn(&Setup, Side, &Path) -> Command,
}

pub fn cases() -> Vec<Box<dyn Case>> {
    vec![
        Box::new(Startup {
            name: "start-true",
            about: "start and end of `true`, the library preloaded directly",
            wanted: Some(Wanted::MoreAtMost(1000.0)),
            command: preloaded_directly,
        }),
        Box::new(Startup {
            name: "start-true-launcher",
            about: "start and end of `true`, through the launcher",
            wanted: None,
            command: Setup::command,
        }),
    ]
}

impl Case for Startup {
    fn name(&self) -> &str {
        self.name
    }

    fn about(&self) -> String {
        self.about.into()
    }

    fn needs(&self) -> &[&'static str] {
        &["true"]
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric {
            name: "us/start",
            better: Better::Lower,
            has_ratio: true,
            wanted: self.wanted,
        }]
    }

    fn run(&self, setup: &Setup, side: Side) -> Result<Vec<f64>, String> {
        let program = setup::find("true").ok_or("true is not installed")?;
        let described = |error: io::Error| format!("true: {error}");
        let starts = setup.either(50, 300);
        let begin = Instant::now();
        for _ in 0..starts {
            let mut command = (self.command)(setup, side, &program);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().map_err(described)?;
            match run::wait(&mut child, LIMIT).map_err(described)? {
                Some(status) if status.success() => {}
                Some(status) => return Err(format!("true ended with {status}")),
                None => {
                    return Err(format!("true hung: not finished after {} s", LIMIT.as_secs()));
                }
            }
        }
        Ok(vec![begin.elapsed().as_secs_f64() * 1e6 / f64::from(starts)])
    }
}

fn preloaded_directly(setup: &Setup, side: Side, program: &Path) -> Command {
    let mut command = setup::native(program);
    if let Some(library) = setup.library().filter(|_| setup.preloads(side)) {
        command.env("LD_PRELOAD", library);
    }
    command
}
