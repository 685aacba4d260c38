//! Who looks after the others: has them rest, finds out whether all has come, names what hangs.

use super::*;

impl World<'_> {
    /// Senders rest until all was read. `is_still`: without signals that would wake who sleeps. Gives how long it took.
    pub(super) fn quiet_point(&self, is_still: bool) -> Duration {
        self.is_still.store(is_still, Ordering::SeqCst);
        self.is_quiet.store(true, Ordering::SeqCst);
        let resting = |role: &Role| match role {
            Role::Sender | Role::Disturber => true,
            Role::Signaller | Role::Forker => is_still,
            Role::Receiver(_) | Role::Common => false,
        };
        let roles = roles(self.plan);
        let rest: Vec<usize> = (0..roles.len()).filter(|&index| resting(&roles[index])).collect();
        let is_paused = |index: &usize| self.workers[*index].is_paused.load(Ordering::SeqCst);
        self.until("a thread does not come to its end", || rest.iter().all(is_paused));
        let start = Instant::now();
        self.until("messages do not come", || {
            self.channels.iter().all(|channel| {
                // The rest of a message is sent when there is room.
                lock(&channel.sending).finish();
                !channel.is_unread()
            })
        });
        let took = start.elapsed();
        self.is_quiet.store(false, Ordering::SeqCst);
        self.is_still.store(false, Ordering::SeqCst);
        took
    }

    pub(super) fn end(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = sys::write(self.stop, &1u64.to_ne_bytes());
        self.until("threads do not end", || {
            self.workers.iter().all(|worker| worker.act() == Act::Over)
        });
    }

    /// Waits for what must come; names what hangs if it does not, and ends the process: its threads cannot be ended.
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..LIMIT * (BEAT.as_millis() as u64) {
            if is_so() || !self.faults.is_empty() && self.faults.is_old() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        if is_so() {
            return;
        }
        eprintln!("uepoll-stress: {what}");
        self.faults.print();
        for (index, channel) in self.channels.iter().enumerate() {
            if channel.is_unread() {
                let order = Ordering::SeqCst;
                let (sent, received) = (channel.sent.load(order), channel.received.load(order));
                let receiving = channel.receiving.try_lock();
                let receiving = receiving.map_or("in somebody's hands".into(), |it| it.to_string());
                eprintln!("  channel {index}: {received} of {sent} messages came; {receiving}");
            }
        }
        let before: Vec<u64> = self.workers.iter().map(Worker::count).collect();
        thread::sleep(Duration::from_secs(1));
        for ((worker, role), before) in self.workers.iter().zip(roles(self.plan)).zip(before) {
            if worker.count() == before && worker.act() != Act::Over {
                let thread = worker.thread.load(Ordering::SeqCst);
                let role = match role {
                    Role::Receiver(instance) => format!("receiver of instance {instance}"),
                    Role::Sender => "sender".into(),
                    Role::Disturber => "disturber".into(),
                    Role::Signaller => "sender of signals".into(),
                    Role::Forker => "forker".into(),
                    Role::Common => "thread of the common instance".into(),
                };
                eprintln!("  thread {thread}, {role}: {}", worker.tell());
            }
        }
        sys::exit_now(1);
    }

    pub(super) fn check_signals(&self) {
        self.read_signals();
        let order = Ordering::SeqCst;
        let (written, read) = (SIGNALS_WRITTEN.load(order), self.counts.signals_read.load(order));
        if written != read {
            self.faults.add(format!("handlers wrote {written} bytes, {read} were read"));
        }
        let failed = CONTROL_FAILED_IN_HANDLER.load(order);
        if failed != 0 {
            self.faults.add(format!("epoll_ctl failed {failed} times in handlers"));
        }
    }

    pub(super) fn summary(&self, start: Instant, (points, slowest): (u64, Duration)) -> String {
        let sum = |of: fn(&Channel) -> &AtomicU64| -> u64 {
            self.channels.iter().map(|channel| of(channel).load(Ordering::SeqCst)).sum()
        };
        let (sent, received) = (sum(|it| &it.sent), sum(|it| &it.received));
        let get = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let counts = &self.counts;
        format!(
            "{received} of {sent} messages in {:.1} s, {points} quiet points (slowest {} ms), {} waits, {} events, \
             {} interrupted, {} epoll_ctl, {} channels made anew, {} ghosts, {} signals, {} children",
            start.elapsed().as_secs_f64(),
            slowest.as_millis(),
            get(&counts.waits),
            get(&counts.events),
            get(&counts.interrupted),
            get(&counts.controls),
            get(&counts.renewed),
            get(&counts.ghosts),
            get(&counts.signals_sent),
            get(&counts.children),
        )
    }
}
