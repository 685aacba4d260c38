//! From a script with a difference to a small one: operations are deleted in ever smaller blocks, then made simpler,
//! as long as a difference of the same kind stays.

use crate::compare::Fault;
use crate::echo::Echoes;
use crate::mask::Mask;
use crate::run::{Statistics, run};
use crate::script::{Amount, Op, Way};

/// A difference that depends on time is looked for this often before a smaller script counts as clean.
const TRIES: usize = 2;

/// Says whether a script shows the difference, by the part of it that does.
pub type Shows<'a> = &'a mut dyn FnMut(&[Op]) -> Option<Vec<Op>>;

/// The smallest script that was found with a difference of this kind.
pub fn shrink(script: &[Op], fault: Fault, echoes: Echoes) -> Vec<Op> {
    shrink_by(script, &mut |script| {
        let outcome = run(script, echoes, &mut Statistics::default()).ok()?;
        let found = outcome.difference.is_some_and(|(_, difference)| difference.fault == fault);
        found.then_some(outcome.resolved)
    })
}

/// The same for any difference.
pub fn shrink_by(script: &[Op], once: Shows<'_>) -> Vec<Op> {
    let mut shows = |script: &[Op]| (0..TRIES).find_map(|_| once(script));
    let mut best = script.to_vec();
    loop {
        let before = best.clone();
        delete_blocks(&mut best, &mut shows);
        simplify(&mut best, &mut shows);
        if best == before {
            return best;
        }
    }
}

fn delete_blocks(best: &mut Vec<Op>, shows: Shows<'_>) {
    let mut block = (best.len() / 2).max(1);
    loop {
        let mut start = best.len().saturating_sub(block);
        loop {
            let smaller = without(best, start, start + block);
            if let Some(resolved) = shows(&smaller) {
                *best = if resolved.len() <= smaller.len() { resolved } else { smaller };
            }
            if start == 0 {
                break;
            }
            start = start.min(best.len()).saturating_sub(block);
        }
        if block == 1 {
            return;
        }
        block = block.div_ceil(2);
    }
}

/// The script without some operations. Labels behind those that are no longer made move up.
fn without(script: &[Op], start: usize, end: usize) -> Vec<Op> {
    let end = end.min(script.len());
    let made = |ops: &[Op]| -> (u8, u8) {
        ops.iter().fold((0, 0), |(files, instances), op| {
            (files + op.descriptors(), instances + op.instances())
        })
    };
    let (files, instances) = made(&script[..start]);
    let (gone_files, gone_instances) = made(&script[start..end]);
    let moved = |first: u8, gone: u8| {
        move |label: u8| if label >= first.saturating_add(gone) { label - gone } else { label }
    };
    let rest = script[end..]
        .iter()
        .map(|op| op.relabel(moved(files, gone_files), moved(instances, gone_instances)));
    script[..start].iter().copied().chain(rest).collect()
}

fn simplify(best: &mut [Op], shows: Shows<'_>) {
    for index in 0..best.len() {
        for simpler in simpler(best[index]) {
            let op = std::mem::replace(&mut best[index], simpler);
            if shows(best).is_none() {
                best[index] = op;
            }
        }
    }
}

/// Simpler forms of an operation, to be tried one after the other; each from the form that it had at first.
fn simpler(op: Op) -> Vec<Op> {
    match op {
        Op::Read { fd, amount, .. } => vec![
            Op::Read { fd, amount, way: Way::Plain },
            Op::Read { fd, amount: Amount::Bytes(1), way: Way::Plain },
        ],
        Op::Write { fd, amount, .. } => vec![
            Op::Write { fd, amount, way: Way::Plain },
            Op::Write { fd, amount: Amount::Bytes(1), way: Way::Plain },
        ],
        Op::Wait { epoll, .. } => vec![Op::Wait { epoll, max: 16 }],
        Op::Sleep { epoll, .. } => vec![Op::Wait { epoll, max: 16 }],
        Op::Dup3 { from, onto } => vec![Op::Dup2 { from, onto }],
        Op::DupFd(fd) => vec![Op::Dup(fd)],
        Op::Reset(fd) => vec![Op::Close(fd)],
        Op::CloseRange { fd, .. } => vec![Op::Close(fd)],
        Op::Ctl { epoll, action, target, mask } => Mask::NAMES
            .iter()
            .filter(|(bit, _)| mask.0 & bit != 0)
            .map(|(bit, _)| Op::Ctl { epoll, action, target, mask: Mask(mask.0 & !bit) })
            .collect(),
        _ => Vec::new(),
    }
}
