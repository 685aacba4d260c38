//! memcached with four threads: nine GETs to a SET of one small value, by the load generator of our own.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::load::Talk;
use crate::pairs::{Case, Metric, Wanted};
use crate::servers::{self, Crowd, Dialogue, Kind};
use crate::setup::{Setup, Side};

const SET: &[u8] = b"set key 0 0 32\r\n0123456789abcdef0123456789abcdef\r\n";

static MEMCACHED: Kind = Kind {
    program: "memcached",
    dialogue: Dialogue { request: SET, complete: is_whole_answer },
    prepare,
};

const TALK: Talk = Talk {
    request: |number| if number % 10 == 0 { SET } else { b"get key\r\n" },
    complete: is_whole_answer,
};

struct Memcached {
    name: &'static str,
    connections: usize,
}

pub fn cases() -> Vec<Box<dyn Case>> {
    vec![
        Box::new(Memcached { name: "memcached-64", connections: 64 }),
        Box::new(Memcached { name: "memcached-1000", connections: 1000 }),
    ]
}

impl Case for Memcached {
    fn name(&self) -> &str {
        self.name
    }

    fn about(&self) -> String {
        format!("memcached, 4 threads, {} connections, nine GETs to a SET", self.connections)
    }

    fn in_quick(&self) -> bool {
        self.connections == 64
    }

    fn needs(&self) -> &[&'static str] {
        &["memcached"]
    }

    fn metrics(&self) -> Vec<Metric> {
        servers::metrics(Some(Wanted::ratio_at_least(0.95)), None)
    }

    fn run(&self, setup: &Setup, side: Side) -> Result<Vec<f64>, String> {
        let time = setup.either(Duration::from_millis(500), Duration::from_millis(1500));
        let crowd = Crowd { active: self.connections, idle: 0 };
        servers::measure(&MEMCACHED, setup, side, crowd, |server| {
            let mut load = server.generator(self.connections, TALK)?;
            load.as_fast_as_possible(time / 10)?;
            server.timed(|| Ok((load.as_fast_as_possible(time)? as f64, None)))
        })
    }
}

fn prepare(command: &mut Command, _directory: &Path, port: u16) -> io::Result<()> {
    command.args(["-t", "4", "-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-c", "19000"]);
    // Root is refused otherwise; for anybody else it is nobody's business.
    command.args(["-u", "root"]);
    Ok(())
}

fn is_whole_answer(answer: &[u8]) -> bool {
    answer.ends_with(b"END\r\n") || answer == b"STORED\r\n"
}
