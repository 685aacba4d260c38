//! redis: GET and SET of one small value, loaded by redis-benchmark.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::load::TIMEOUT;
use crate::pairs::{Case, Metric, Wanted};
use crate::run;
use crate::servers::{self, Crowd, Dialogue, Kind, Server};
use crate::setup::{self, Setup, Side};

/// Far beyond what any of the loads takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Each connection begins with a SET of the key that redis-benchmark reads, so that GET finds three bytes there.
static REDIS: Kind = Kind {
    program: "redis-server",
    dialogue: Dialogue { request: b"SET key:__rand_int__ VXK\r\n", complete: is_ok },
    prepare,
};

struct Redis {
    name: String,
    command: &'static str,
    clients: usize,
    pipeline: usize,
    idle: usize,
    /// As many as take about a second natively; with `--quick` half of them.
    requests: usize,
    wanted: Wanted,
}

pub fn cases() -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for (command, short) in [("GET", "get"), ("SET", "set")] {
        let mut case = |suffix: &str, clients, pipeline, idle, requests| {
            let name = format!("redis-{short}-{suffix}");
            let wanted = if idle > 0 { Wanted::ratio_at_least(0.97) } else { Wanted::no_loss() };
            cases.push(Box::new(Redis {
                name,
                command,
                clients,
                pipeline,
                idle,
                requests,
                wanted,
            }));
        };
        for (clients, requests) in [(1, 16_000), (50, 40_000), (500, 40_000), (1000, 40_000)] {
            case(&clients.to_string(), clients, 1, 0, requests);
            case(&format!("{clients}-p16"), clients, 16, 0, requests * 5);
        }
        if command == "GET" {
            case("50-idle-9000", 50, 1, 9000, 40_000);
        }
    }
    cases
}

impl Case for Redis {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> String {
        let crowd = Crowd { active: self.clients, idle: self.idle };
        format!("redis, {}, {crowd}, pipeline {}", self.command, self.pipeline)
    }

    fn in_quick(&self) -> bool {
        ["redis-get-50", "redis-set-50", "redis-get-50-p16"].contains(&self.name.as_str())
    }

    fn needs(&self) -> &[&'static str] {
        &["redis-server", "redis-benchmark"]
    }

    fn metrics(&self) -> Vec<Metric> {
        servers::metrics(Some(self.wanted), None)
    }

    fn run(&self, setup: &Setup, side: Side) -> Result<Vec<f64>, String> {
        let crowd = Crowd { active: self.clients, idle: self.idle };
        servers::measure(&REDIS, setup, side, crowd, |server| {
            let requests = setup.either(self.requests / 2, self.requests);
            server.timed(|| Ok((requests as f64, Some(self.load(server, requests)?))))
        })
    }
}

impl Redis {
    /// Requests a second.
    fn load(&self, server: &Server, requests: usize) -> Result<f64, String> {
        let program = setup::find("redis-benchmark").ok_or("redis-benchmark is not installed")?;
        let mut command = setup::native(&program);
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.port().to_string(),
            "-t",
            self.command,
            "--csv",
        ]);
        command.args(["-n", &requests.to_string(), "-c", &self.clients.to_string()]);
        command.args(["-P", &self.pipeline.to_string()]);
        parse(&run::bounded(command, LIMIT)?, self.command)
    }
}

fn prepare(command: &mut Command, directory: &Path, port: u16) -> io::Result<()> {
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(directory);
    // No saving: a fork in the middle would be measured too. 19,000 clients fit under the usual limits.
    command.args([
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--maxclients",
        "19000",
    ]);
    command.args(["--timeout", "0", "--tcp-backlog", "4096"]);
    Ok(())
}

fn is_ok(answer: &[u8]) -> bool {
    answer == b"+OK\r\n"
}

/// `"GET","141592.92","0.181",...` after a line of headings. redis-benchmark has no time limit for a request; its
/// slowest one tells whether one would have been exceeded.
fn parse(output: &str, command: &str) -> Result<f64, String> {
    let fields = |line: &str| -> Vec<String> {
        line.trim().split(',').map(|field| field.trim_matches('"').to_string()).collect()
    };
    let rows: Vec<Vec<String>> = output.lines().map(fields).collect();
    let find = |heading: &str| -> Option<f64> {
        let headings = rows.iter().find(|row| row[0] == "test")?;
        let column = headings.iter().position(|field| field == heading)?;
        rows.iter().find(|row| row[0] == command)?.get(column)?.parse().ok()
    };
    match (find("rps"), find("max_latency_ms")) {
        (Some(_), Some(slowest)) if slowest > TIMEOUT.as_secs_f64() * 1e3 => {
            Err(format!("requests timed out: the slowest took {slowest} ms"))
        }
        (Some(rate), Some(_)) if rate > 0.0 => Ok(rate),
        _ => Err(format!("redis-benchmark printed no figures{}", run::quoted_tail(output))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_benchmark_output() {
        let csv = "\"test\",\"rps\",\"max_latency_ms\"\n\"GET\",\"141592.92\",\"5.4\"\n";
        assert_eq!(parse(csv, "GET"), Ok(141_592.92));
        assert!(parse(csv, "SET").is_err());
        assert!(parse("Could not connect", "GET").is_err());
        let slow = csv.replace("5.4", "2000.5");
        assert!(parse(&slow, "GET").is_err_and(|why| why.contains("timed out")));
    }
}
