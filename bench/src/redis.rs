//! redis: GET and SET of one small value, loaded by redis-benchmark.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::pairs::{Better, Case, Metric, Wanted};
use crate::run;
use crate::servers::{self, Crowd, Dialogue, Kind, Load, Server};
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
    /// As many as take about two seconds natively; with `--quick` an eighth.
    requests: usize,
    wanted: Option<Wanted>,
}

pub fn cases() -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for (command, short) in [("GET", "get"), ("SET", "set")] {
        let mut case = |suffix: &str, clients, pipeline, idle, requests| {
            let name = format!("redis-{short}-{suffix}");
            let wanted = (name == "redis-get-50").then_some(Wanted::RatioAtLeast(0.95));
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
        case("1", 1, 1, 0, 60_000);
        case("50", 50, 1, 0, 240_000);
        case("500", 500, 1, 0, 240_000);
        case("50-p16", 50, 16, 0, 1_800_000);
        if command == "GET" {
            case("50-idle-9000", 50, 1, 9000, 240_000);
        }
    }
    cases
}

impl Case for Redis {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> String {
        format!(
            "redis, {}, {} clients, pipeline {}, {} idle ones",
            self.command, self.clients, self.pipeline, self.idle
        )
    }

    /// For a look, SET is what GET is.
    fn in_quick(&self) -> bool {
        self.command == "GET" || self.name == "redis-set-50"
    }

    fn needs(&self) -> &[&'static str] {
        &["redis-server", "redis-benchmark"]
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![
            Metric {
                name: "requests/s",
                better: Better::Higher,
                has_ratio: true,
                wanted: self.wanted,
            },
            Metric { name: "server us/req", better: Better::Lower, has_ratio: true, wanted: None },
        ]
    }

    fn run(&self, setup: &Setup, side: Side) -> Result<Vec<f64>, String> {
        let crowd = Crowd { active: self.clients, idle: self.idle };
        servers::measure(&REDIS, setup, side, crowd, |server| {
            self.load(server, setup.either(self.requests / 8, self.requests))
        })
    }
}

impl Redis {
    fn load(&self, server: &Server, requests: usize) -> Result<Load, String> {
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
        let requests_per_second = parse(&run::bounded(command, LIMIT)?, self.command)?;
        Ok(Load { requests: requests as f64, requests_per_second })
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

/// `"GET","141592.92","0.181",...` after a line of headings.
fn parse(output: &str, command: &str) -> Result<f64, String> {
    let row = format!("\"{command}\",");
    let rate = output.lines().find_map(|line| {
        line.trim()
            .strip_prefix(&row)?
            .split(',')
            .next()?
            .trim_matches('"')
            .parse()
            .ok()
            .filter(|rate| *rate > 0.0)
    });
    rate.ok_or_else(|| format!("redis-benchmark printed no figures{}", run::quoted_tail(output)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_benchmark_output() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"GET\",\"141592.92\",\"0.181\"\n";
        assert_eq!(parse(csv, "GET"), Ok(141_592.92));
        assert!(parse(csv, "SET").is_err());
        assert!(parse("Could not connect", "GET").is_err());
    }
}
