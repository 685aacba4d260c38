//! What a case is, how its pairs are interleaved, and the few statistics that are made of them.

use std::fmt;

use crate::processes::Neighbours;
use crate::setup::{Setup, Side};

/// One thing to measure on both sides.
pub trait Case {
    fn name(&self) -> &str;

    /// What is measured, in one line.
    fn about(&self) -> String;

    /// External programs, without which the case is skipped.
    fn needs(&self) -> &[&'static str] {
        &[]
    }

    /// Whether `--quick` takes it along.
    fn in_quick(&self) -> bool {
        true
    }

    /// What `run` returns, in its order.
    fn metrics(&self) -> Vec<Metric>;

    /// One measurement on one side: a number for each metric, or why there is none.
    fn run(&self, setup: &Setup, side: Side) -> Result<Vec<f64>, String>;
}

/// One number that a case gives.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub better: Better,
    /// False where the native figure is next to nothing and a ratio would say nothing.
    pub has_ratio: bool,
    pub wanted: Option<Wanted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// The figure that the library is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// The median ratio preloaded / native. Between `noise` and `least` a machine cannot tell, and it is not missed.
    RatioAtLeast {
        least: f64,
        noise: f64,
    },
    RatioAtMost(f64),
    /// The preloaded median itself.
    AtMost(f64),
    /// The median of what the preloaded side has more than the native one, inside the pairs.
    MoreAtMost(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    /// Below what is wanted by no more than the noise.
    Noise,
    Missed,
}

impl Wanted {
    pub fn ratio_at_least(least: f64) -> Wanted {
        Wanted::RatioAtLeast { least, noise: least }
    }

    /// No loss: 1.00, of which a busy machine takes up to 3 % at random.
    pub fn no_loss() -> Wanted {
        Wanted::RatioAtLeast { least: 1.00, noise: 0.97 }
    }

    /// The number that is judged.
    pub fn found(self, result: &Measured) -> Option<f64> {
        match self {
            Wanted::RatioAtLeast { .. } | Wanted::RatioAtMost(_) => {
                result.ratio.map(|ratio| ratio.median)
            }
            Wanted::AtMost(_) => Some(result.preloaded.median),
            Wanted::MoreAtMost(_) => Some(result.more.median),
        }
    }

    pub fn verdict(self, result: &Measured) -> Verdict {
        // No ratio, no success.
        let Some(found) = self.found(result) else {
            return Verdict::Missed;
        };
        match self {
            Wanted::RatioAtLeast { least, .. } if found >= least => Verdict::Met,
            Wanted::RatioAtLeast { noise, .. } if found >= noise => Verdict::Noise,
            Wanted::RatioAtMost(most) | Wanted::AtMost(most) | Wanted::MoreAtMost(most)
                if found <= most =>
            {
                Verdict::Met
            }
            _ => Verdict::Missed,
        }
    }
}

impl Verdict {
    pub fn said(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Noise => "within the noise",
            Verdict::Missed => "MISSED",
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::RatioAtLeast { least, .. } => write!(out, "ratio >= {least:.2}"),
            Wanted::RatioAtMost(most) => write!(out, "ratio <= {most:.2}"),
            Wanted::AtMost(most) => write!(out, "<= {most}"),
            Wanted::MoreAtMost(most) => write!(out, "<= {most} more"),
        }
    }
}

/// The spread of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Spread {
    /// None for no numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&lowest, &highest) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        };
        Some(Spread { median, lowest, highest })
    }
}

/// One metric over all pairs.
#[derive(Clone, Debug)]
pub struct Measured {
    pub metric: Metric,
    /// (native, preloaded), in the order of the measurements.
    pub pairs: Vec<(f64, f64)>,
    pub native: Spread,
    pub preloaded: Spread,
    /// Of preloaded - native inside each pair.
    pub more: Spread,
    /// Of the ratios preloaded / native inside each pair, which is not the ratio of the medians.
    pub ratio: Option<Spread>,
}

impl Measured {
    /// None where nothing in particular is wanted.
    pub fn verdict(&self) -> Option<Verdict> {
        Some(self.metric.wanted?.verdict(self))
    }

    fn of(metric: Metric, pairs: Vec<(f64, f64)>) -> Option<Measured> {
        let native = Spread::of(pairs.iter().map(|pair| pair.0))?;
        let preloaded = Spread::of(pairs.iter().map(|pair| pair.1))?;
        let more = Spread::of(pairs.iter().map(|pair| pair.1 - pair.0))?;
        // One pair without a ratio (a native zero: below the clock's tick) spoils the median: then there is none.
        let divisible = metric.has_ratio && pairs.iter().all(|pair| pair.0 > 0.0);
        let ratio =
            if divisible { Spread::of(pairs.iter().map(|pair| pair.1 / pair.0)) } else { None };
        Some(Measured { metric, pairs, native, preloaded, more, ratio })
    }
}

pub enum Outcome {
    Measured {
        metrics: Vec<Measured>,
        /// The share of the machine that other programs took meanwhile.
        others: f64,
    },
    /// Something that the case needs is not here. Never counted as passed.
    Skipped(String),
    Failed(String),
}

/// All pairs of one case. The first failure ends it: what hangs once would hang in every pair.
pub fn measure(case: &dyn Case, setup: &Setup) -> Outcome {
    let neighbours = Neighbours::watch();
    let metrics = case.metrics();
    let mut pairs: Vec<Vec<(f64, f64)>> = vec![Vec::new(); metrics.len()];
    for pair in 1..=setup.pairs {
        let side = |side: Side| {
            let numbers = case
                .run(setup, side)
                .map_err(|why| format!("pair {pair}, {}: {why}", side.name()))?;
            if numbers.len() == metrics.len() && numbers.iter().all(|number| number.is_finite()) {
                Ok(numbers)
            } else {
                Err(format!("pair {pair}, {}: measured {numbers:?}", side.name()))
            }
        };
        let both = side(Side::Native).and_then(|native| Ok((native, side(Side::Preloaded)?)));
        match both {
            Ok((native, preloaded)) => {
                for (pairs, pair) in pairs.iter_mut().zip(native.into_iter().zip(preloaded)) {
                    pairs.push(pair);
                }
            }
            Err(why) => return Outcome::Failed(why),
        }
    }
    let measured =
        metrics.into_iter().zip(pairs).filter_map(|(metric, pairs)| Measured::of(metric, pairs));
    Outcome::Measured { metrics: measured.collect(), others: neighbours.share() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Metric =
        Metric { name: "ops/s", better: Better::Higher, has_ratio: true, wanted: None };

    #[test]
    fn spreads() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0]),
            Some(Spread { median: 2.0, lowest: 1.0, highest: 3.0 })
        );
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, lowest: 1.0, highest: 4.0 }));
    }

    #[test]
    fn the_ratio_is_the_median_inside_the_pairs() {
        // The medians are 20 and 20; inside the pairs the preloaded side was twice as good twice.
        let measured = Measured::of(RATE, vec![(10.0, 20.0), (20.0, 40.0), (40.0, 10.0)]).unwrap();
        assert_eq!(measured.ratio, Some(Spread { median: 2.0, lowest: 0.25, highest: 2.0 }));
    }

    #[test]
    fn no_ratio_to_nothing() {
        let measured = Measured::of(RATE, vec![(0.0, 20.0), (20.0, 40.0)]).unwrap();
        assert_eq!(measured.ratio, None);
        for (wanted, verdict) in [
            (Wanted::ratio_at_least(0.0), Verdict::Missed),
            (Wanted::RatioAtMost(9.0), Verdict::Missed),
            (Wanted::AtMost(30.0), Verdict::Met),
            (Wanted::AtMost(29.0), Verdict::Missed),
            (Wanted::MoreAtMost(20.0), Verdict::Met),
            (Wanted::MoreAtMost(19.0), Verdict::Missed),
        ] {
            assert_eq!(wanted.verdict(&measured), verdict, "{wanted}");
        }
    }

    #[test]
    fn noise_is_no_miss() {
        let verdict = |preloaded| {
            Wanted::no_loss().verdict(&Measured::of(RATE, vec![(100.0, preloaded)]).unwrap())
        };
        assert_eq!(
            [101.0, 98.0, 96.0].map(verdict),
            [Verdict::Met, Verdict::Noise, Verdict::Missed]
        );
    }
}
