//! nginx: one worker serves one file of 1 kB over keep-alive connections, loaded by wrk.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::pairs::{Better, Case, Metric, Wanted};
use crate::run;
use crate::servers::{self, Crowd, Dialogue, Kind, Load, Server};
use crate::setup::{self, Setup, Side};

const BODY: usize = 1024;
/// wrk stops by itself; this much later it hangs.
const SLACK: Duration = Duration::from_secs(20);

static NGINX: Kind = Kind {
    program: "nginx",
    dialogue: Dialogue {
        request: b"GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n",
        complete: is_whole_answer,
    },
    prepare,
};

struct Nginx {
    name: &'static str,
    connections: usize,
    idle: usize,
    wanted: Option<Wanted>,
}

pub fn cases() -> Vec<Box<dyn Case>> {
    let case = |name, connections, idle, wanted| -> Box<dyn Case> {
        Box::new(Nginx { name, connections, idle, wanted })
    };
    vec![
        case("nginx-1", 1, 0, None),
        case("nginx-64", 64, 0, Some(Wanted::RatioAtLeast(0.95))),
        case("nginx-1000", 1000, 0, None),
        case("nginx-64-idle-9000", 64, 9000, None),
    ]
}

impl Case for Nginx {
    fn name(&self) -> &str {
        self.name
    }

    fn about(&self) -> String {
        format!(
            "nginx, 1 kB, keep-alive, {} connections of wrk, {} idle ones",
            self.connections, self.idle
        )
    }

    fn in_quick(&self) -> bool {
        self.connections > 1
    }

    fn needs(&self) -> &[&'static str] {
        &["nginx", "wrk"]
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
        let seconds = setup.either(1, 4);
        let crowd = Crowd { active: self.connections, idle: self.idle };
        servers::measure(&NGINX, setup, side, crowd, |server| {
            wrk(server, self.connections, seconds)
        })
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

fn wrk(server: &Server, connections: usize, seconds: u64) -> Result<Load, String> {
    let program = setup::find("wrk").ok_or("wrk is not installed")?;
    let mut command = setup::native(&program);
    command.args(["-t", "1", "-c", &connections.to_string(), "-d", &format!("{seconds}s")]);
    command.arg(format!("http://127.0.0.1:{}/1k", server.port()));
    parse(&run::bounded(command, Duration::from_secs(seconds) + SLACK)?)
}

/// `18532 requests in 1.00s, 22.1MB read`, `Requests/sec:  18529.44`; and complaints, which make the figures void.
fn parse(output: &str) -> Result<Load, String> {
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
        (Some(requests), Some(requests_per_second)) => Ok(Load { requests, requests_per_second }),
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
        let load = parse(GOOD).unwrap();
        assert_eq!((load.requests, load.requests_per_second), (22519.0, 20472.15));
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
