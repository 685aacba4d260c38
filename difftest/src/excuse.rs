//! Waits with echoes: samples around them, and what is done about an event that only one side told.

use crate::compare::{self, Compared, Difference, Fault, Told};
use crate::echo::{Echoes, Sample, Watched};
use crate::mask::Mask;
use crate::run::{ALL, Run};
use crate::script::{Action, Kind};
use crate::sys;
use crate::twin::Twin;
use crate::world::{FileId, Group};

impl Run<'_> {
    /// Looks at all files of some groups, or at all that matter.
    pub fn sample(&mut self, groups: Option<&[Group]>) {
        for stirred in self.world.take_stirred() {
            self.ledger.stirred(stirred);
        }
        for id in self.ledger.files() {
            match self.sample_of(id, groups) {
                Err(Closed) => self.ledger.forget(id),
                Ok(None) => {}
                Ok(Some(sample)) => self.ledger.sampled(id, sample),
            }
        }
    }

    fn sample_of(&self, id: FileId, groups: Option<&[Group]>) -> Result<Option<Sample>, Closed> {
        let mut open = self.world.files.iter().flatten().filter(|file| file.open && file.id == id);
        let file = open.next().ok_or(Closed)?;
        if groups.is_some_and(|groups| !groups.contains(&file.group)) {
            return Ok(None);
        }
        let levels = sys::kernel::poll(file.number, !0).unwrap_or(0);
        // The end of a stream counts as a byte. Where it was told no more can be read than FIONREAD says.
        let is_over = levels & (libc::POLLRDHUP | libc::POLLHUP) != 0;
        let count = match file.kind {
            Kind::Udp => sys::received(file.number),
            Kind::Tcp | Kind::TcpFresh if !is_over => sys::ever_received(file.number),
            _ => None,
        };
        // Of a peer that is not known nobody can know when it reads.
        let unread = match file.kind {
            Kind::UnixDatagram | Kind::UnixPackets => sys::unread(file.number),
            Kind::UnixStream if self.world.has_mate(file) => sys::unread(file.number),
            _ => None,
        };
        // A pipe's writing end counts what the other end has to read.
        let queued = sys::queued(file.number).filter(|_| sys::is_readable(file.number));
        let state = match file.kind {
            Kind::Tcp | Kind::TcpFresh => sys::tcp_state(file.number),
            _ => None,
        };
        Ok(Some(Sample { levels, queued, count, unread, state }))
    }

    /// Waits on both sides and compares; an echo is no difference.
    pub fn compared(
        &mut self,
        twin: Twin,
        wait: impl FnOnce() -> Compared,
    ) -> Result<(), Difference> {
        self.sample(None);
        let before = self.ledger.arrivals();
        let compared = wait();
        self.statistics.waits += 1;
        self.statistics.late += u64::from(compared.late);
        // With the state before the wait: if that changed meanwhile it is not known which one was told.
        for (data, mask) in compared.ours.events() {
            self.ledger.told(data, mask);
        }
        self.sample(None);
        let result = match &compared.difference {
            None => Ok(()),
            Some(difference) if self.echoes == Echoes::Forbidden => Err(difference.clone()),
            Some(difference) => {
                self.excuse(twin, &compared.ours, &compared.kernel, difference.clone())
            }
        };
        let after = self.ledger.arrivals();
        for (data, _) in compared.ours.events() {
            self.ledger.told_since(data, &before, &after);
        }
        result
    }

    /// The same for what an instance answered that both were asked: readable it may be for an echo's sake.
    pub fn excused_by_waits(
        &mut self,
        twin: Twin,
        difference: Difference,
    ) -> Result<(), Difference> {
        if self.echoes == Echoes::Forbidden {
            return Err(difference);
        }
        let before = self.echoes_seen();
        self.wait(twin, ALL, Told::default())?;
        if self.echoes_seen() > before { Ok(()) } else { Err(difference) }
    }

    pub fn echoes_seen(&self) -> u64 {
        self.statistics.echoes.iter().sum()
    }

    fn excuse(
        &mut self,
        twin: Twin,
        ours: &Told,
        kernel: &Told,
        difference: Difference,
    ) -> Result<(), Difference> {
        if let Some(extra) = compare::beyond(kernel, ours) {
            let came_between = extra.iter().all(|&(data, _)| self.ledger.came_between(data));
            self.statistics.between += u64::from(came_between);
            return if came_between { Ok(()) } else { Err(difference) };
        }
        let Some(extra) = compare::beyond(ours, kernel) else { return Err(difference) };
        for &(data, mask) in &extra {
            match self.ledger.item(data).map(|item| item.watched) {
                Some(Watched::File { .. }) => {
                    let kind = self.ledger.echo(data, mask).ok_or_else(|| difference.clone())?;
                    if self.echoes == Echoes::Shown {
                        let text = format!("echo of {kind}: {}", difference.text);
                        return Err(Difference { fault: Fault::Echo, text });
                    }
                    self.statistics.echoes[kind as usize] += 1;
                }
                Some(Watched::Instance(instance)) => {
                    let inner = self.twin_of(instance).ok_or_else(|| difference.clone())?;
                    let restless = self.world.is_restless() || self.ledger.is_blind();
                    let known = restless && self.ledger.was_told(data, mask);
                    let excused = self.excused_by_waits(inner, difference.clone());
                    if !known {
                        excused?;
                    }
                }
                None => return Err(difference),
            }
        }
        for (data, _) in extra {
            self.resync(twin, data);
        }
        Ok(())
    }

    /// A one-shot item is silent on the kernel's side now, and not on ours: both get it anew.
    fn resync(&self, twin: Twin, data: u64) {
        let Some(item) = self.ledger.item(data).filter(|item| item.mask.0 & Mask::ONESHOT != 0)
        else {
            return;
        };
        let target = match item.watched {
            Watched::Instance(instance) => self.twin_of(instance),
            Watched::File { .. } => None,
        };
        if let Some(target) = target {
            let _ = twin.ctl(Action::Mod, target, item.mask, data);
        }
    }
}

/// The file is open no more.
struct Closed;
