//! What did not hold.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::messages::lock;

/// More are not told.
const MOST: usize = 20;
/// After the first one, others are given this long.
const SOON: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Faults {
    found: Mutex<(Vec<String>, usize, Option<Instant>)>,
}

impl Faults {
    pub fn add(&self, text: String) {
        let mut found = lock(&self.found);
        found.1 += 1;
        found.2.get_or_insert_with(Instant::now);
        if found.0.len() < MOST {
            found.0.push(text);
        }
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.found).1 == 0
    }

    /// Whether the first one was a while ago.
    pub fn is_old(&self) -> bool {
        lock(&self.found).2.is_some_and(|first| first.elapsed() > SOON)
    }

    pub fn print(&self) {
        let found = lock(&self.found);
        for text in &found.0 {
            eprintln!("  {text}");
        }
        if found.1 > found.0.len() {
            eprintln!("  and {} more", found.1 - found.0.len());
        }
    }
}
