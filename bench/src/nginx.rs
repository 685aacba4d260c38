//! nginx: one worker serves one file of 1 kB, loaded by wrk, or at a set pace by the generator of our own.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::load::Talk;
use crate::pairs::{Case, Metric, Wanted};
use crate::run;
use crate::servers::{self, Crowd, Dialogue, Kind, Server};
use crate::setup::{self, Setup, Side};

const BODY: usize = 1024;
/// wrk stops by itself; this much later it hangs.
const SLACK: Duration = Duration::from_secs(20);

const REQUEST: &[u8] = b"GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n";

static NGINX: Kind = Kind {
    program: "nginx",
    dialogue: Dialogue { request: REQUEST, complete: is_whole_answer },
    prepare,
};

/// The same request for the load generator of our own.
const TALK: Talk = Talk { request: |_| REQUEST, complete: is_whole_answer };

/// wrk asks as fast as it can.
struct Fast {
    name: &'static str,
    connections: usize,
    idle: usize,
    /// A connection serves many requests, else a new one each.
    keep_alive: bool,
    wanted: Wanted,
}

/// The load generator asks at a set pace, and what counts is the processor time.
struct Paced {
    name: &'static str,
    about: &'static str,
    connections: usize,
    pace: Pace,
    wanted: Wanted,
}

enum Pace {
    /// A fifth of what the native server can do, which is found out once and holds for both sides.
    FifthOfCapacity(OnceCell<f64>),
    /// Of every connection.
    OnceASecond,
}

pub fn cases() -> Vec<Box<dyn Case>> {
    let fast = |name, connections, idle, keep_alive| -> Box<dyn Case> {
        let wanted = if idle > 0 { Wanted::ratio_at_least(0.97) } else { Wanted::no_loss() };
        Box::new(Fast { name, connections, idle, keep_alive, wanted })
    };
    vec![
        fast("nginx-1", 1, 0, true),
        fast("nginx-64", 64, 0, true),
        fast("nginx-1000", 1000, 0, true),
        fast("nginx-64-idle-9000", 64, 9000, true),
        fast("nginx-64-new", 64, 0, false),
        Box::new(Paced {
            name: "nginx-64-paced",
            about: "nginx, 1 kB, 64 connections, a fifth of the requests it could serve",
            connections: 64,
            pace: Pace::FifthOfCapacity(OnceCell::new()),
            wanted: Wanted::RatioAtMost(1.15),
        }),
        Box::new(Paced {
            name: "nginx-9000-paced",
            about: "nginx, 1 kB, 9000 connections that ask once a second each",
            connections: 9000,
            pace: Pace::OnceASecond,
            wanted: Wanted::RatioAtMost(2.5),
        }),
    ]
}

impl Case for Fast {
    fn name(&self) -> &str {
        self.name
    }

    fn about(&self) -> String {
        let how = if self.keep_alive { "keep-alive" } else { "a new connection for each request" };
        let crowd = Crowd { active: self.connections, idle: self.idle };
        format!("nginx, 1 kB, {how}, {crowd}")
    }

    fn in_quick(&self) -> bool {
        self.connections == 64
    }

    fn needs(&self) -> &[&'static str] {
        &["nginx", "wrk"]
    }

    fn metrics(&self) -> Vec<Metric> {
        servers::metrics(Some(self.wanted), None)
    }

    fn run(&self, setup: &Setup, side: Side) -> Result<Vec<f64>, String> {
        let seconds = setup.either(1, 2);
        let crowd = Crowd { active: self.connections, idle: self.idle };
        servers::measure(&NGINX, setup, side, crowd, |server| {
            server.timed(|| wrk(server, self.connections, self.keep_alive, seconds))
        })
    }
}

impl Case for Paced {
    fn name(&self) -> &str {
        self.name
    }

    fn about(&self) -> String {
        self.about.into()
    }

    fn in_quick(&self) -> bool {
        self.connections == 64
    }

    fn needs(&self) -> &[&'static str] {
        &["nginx", "wrk"]
    }

    fn metrics(&self) -> Vec<Metric> {
        // The rate is what was set, so no ratio of it is worth a word.
        let mut metrics = servers::metrics(None, Some(self.wanted));
        metrics[0].has_ratio = false;
        metrics
    }

    fn run(&self, setup: &Setup, side: Side) -> Result<Vec<f64>, String> {
        let rate = self.rate(setup)?;
        let time = setup.either(Duration::from_secs(1), Duration::from_secs(2));
        // Its own crowd is the generator's, so there is no idle one.
        let crowd = Crowd { active: self.connections, idle: 0 };
        servers::measure(&NGINX, setup, side, crowd, |server| {
            let mut load = server.generator(self.connections, TALK)?;
            // The same pace before the measurement, until each connection has asked: what the library learns of a crowd it
            // learns here.
            load.paced(rate, Duration::from_secs_f64((self.connections as f64 / rate).max(0.3)))?;
            server.timed(|| Ok((load.paced(rate, time)? as f64, None)))
        })
    }
}

impl Paced {
    fn rate(&self, setup: &Setup) -> Result<f64, String> {
        let known = match &self.pace {
            Pace::OnceASecond => return Ok(self.connections as f64),
            Pace::FifthOfCapacity(known) => known,
        };
        if let Some(rate) = known.get() {
            return Ok(*rate);
        }
        let crowd = Crowd { active: self.connections, idle: 0 };
        let most = servers::measure(&NGINX, setup, Side::Native, crowd, |server| {
            server.timed(|| wrk(server, self.connections, true, 1))
        })?;
        Ok(*known.get_or_init(|| most[0] / 5.0))
    }
}

fn prepare(command: &mut Command, directory: &Path, port: u16) -> io::Result<()> {
    fs::write(directory.join("1k"), vec![b'x'; BODY])?;
    let root = directory.display();
    let configuration = format!(
        "daemon off;
master_process on;
worker_processes 1;
# Started by root, the worker would otherwise be somebody who may not enter the temporary directory.
user root;
pid {root}/pid;
error_log {root}/error.log warn;
events {{
    use epoll;
    worker_connections 20000;
}}
http {{
    access_log off;
    default_type text/plain;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            root {root};
        }}
    }}
}}
"
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, configuration)?;
    command.arg("-p").arg(directory).arg("-c").arg(file).arg("-e").arg(directory.join("error.log"));
    Ok(())
}

fn is_whole_answer(answer: &[u8]) -> bool {
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    head_end.is_some_and(|position| answer.len() >= position + 4 + BODY)
}

/// How many requests were answered, and how many in a second.
fn wrk(
    server: &Server,
    connections: usize,
    keep_alive: bool,
    seconds: u64,
) -> Result<(f64, Option<f64>), String> {
    let program = setup::find("wrk").ok_or("wrk is not installed")?;
    let mut command = setup::native(&program);
    command.args(["-t", "1", "-c", &connections.to_string(), "-d", &format!("{seconds}s")]);
    if !keep_alive {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(format!("http://127.0.0.1:{}/1k", server.port()));
    parse(&run::bounded(command, Duration::from_secs(seconds) + SLACK)?)
}

/// `18532 requests in 1.00s, 22.1MB read`, `Requests/sec:  18529.44`; and complaints, which make the figures void.
fn parse(output: &str) -> Result<(f64, Option<f64>), String> {
    for complaint in ["Socket errors:", "Non-2xx"] {
        if let Some(line) = output.lines().find(|line| line.contains(complaint)) {
            return Err(format!("wrk: {}", line.trim()));
        }
    }
    let total =
        output.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    let rate =
        output.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    match (total, rate) {
        (Some(requests), Some(rate)) => Ok((requests, Some(rate))),
        _ => Err(format!("wrk printed no figures{}", run::quoted_tail(output))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Running 1s test @ http://127.0.0.1:1/1k\n  1 threads and 64 connections\n  \
                        22519 requests in 1.10s, 27.60MB read\nRequests/sec:  20472.15\nTransfer/sec:     25.09MB\n";

    #[test]
    fn wrk_output() {
        assert_eq!(parse(GOOD), Ok((22519.0, Some(20472.15))));
        let timeouts = format!("{GOOD}  Socket errors: connect 0, read 0, write 0, timeout 12\n");
        assert!(parse(&timeouts).is_err_and(|why| why.contains("timeout 12")));
        assert!(parse("unable to connect").is_err());
    }

    #[test]
    fn whole_answers() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        assert!(!is_whole_answer(&answer));
        answer.resize(answer.len() + BODY, b'x');
        assert!(is_whole_answer(&answer));
    }
}
