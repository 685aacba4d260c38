//! Who disturbs: modifies, removes, duplicates, closes and makes anew what others wait for.

use super::*;

impl World<'_> {
    /// Half of the channels are left alone: what is modified or added is looked at, and that would heal them.
    pub(super) fn disturb(&self, worker: &Worker, dice: &mut Rng) {
        let index = 2 * dice.usize(..self.channels.len() / 2);
        let channel = &self.channels[index];
        match dice.u8(..20) {
            0..7 => {
                let receiving = lock(&channel.receiving);
                if !receiving.is_ghost {
                    self.modify(index, &receiving, worker);
                }
            }
            7..14 => {
                let mut receiving = lock(&channel.receiving);
                if !receiving.is_ghost {
                    self.remove(index, &receiving, worker);
                    if dice.bool() {
                        self.change_number(index, &mut receiving, worker);
                        receiving.watched = receiving.fd;
                    }
                    self.register(index, &mut receiving, dice);
                }
            }
            14 => {
                let mut receiving = lock(&channel.receiving);
                if !receiving.mode.is_once() && !receiving.is_ghost {
                    self.change_number(index, &mut receiving, worker);
                    receiving.is_ghost = true;
                    self.counts.ghosts.fetch_add(1, Ordering::Relaxed);
                }
            }
            15..18 => self.make_anew(index, channel, worker, dice),
            _ => self.pass(worker, dice),
        }
        worker.does(Act::Nothing, 0, -1);
        thread::sleep(Duration::from_micros(dice.u64(..2000)));
    }

    pub(super) fn register(&self, index: usize, receiving: &mut Receiving, dice: &mut Rng) {
        let channel = &self.channels[index];
        let instance = dice.usize(..INSTANCES);
        channel.begin(receiving, instance, Mode::any(dice));
        let item = data(TAG_CHANNEL, index, receiving.generation);
        let mask = receiving.mode.mask();
        self.counts.controls.fetch_add(1, Ordering::Relaxed);
        let added = sys::add(self.instances[instance], receiving.watched, mask, item);
        self.expect(added, || format!("ADD of channel {index}: {receiving}"));
    }

    pub(super) fn modify(&self, index: usize, receiving: &Receiving, worker: &Worker) {
        let channel = &self.channels[index];
        worker.does(Act::Control, receiving.instance as i64, index as i64);
        if let Some(registration) = channel.registration(receiving.generation) {
            registration.arms.fetch_add(1, Ordering::SeqCst);
        }
        self.counts.controls.fetch_add(1, Ordering::Relaxed);
        let item = data(TAG_CHANNEL, index, receiving.generation);
        let epoll = self.instances[receiving.instance];
        let modified = sys::modify(epoll, receiving.watched, receiving.mode.mask(), item);
        self.expect(modified, || format!("MOD of channel {index}: {receiving}"));
    }

    fn remove(&self, index: usize, receiving: &Receiving, worker: &Worker) {
        worker.does(Act::Control, receiving.instance as i64, index as i64);
        self.counts.controls.fetch_add(1, Ordering::Relaxed);
        let removed = sys::delete(self.instances[receiving.instance], receiving.watched);
        self.expect(removed, || format!("DEL of channel {index}: {receiving}"));
        self.is_gone(index, receiving.generation, now());
    }

    fn is_gone(&self, index: usize, generation: u64, when: u64) {
        if let Some(registration) = self.channels[index].registration(generation) {
            registration.gone.store(when, Ordering::SeqCst);
        }
    }

    /// The file is read by a duplicate from here on, and its old number closed.
    fn change_number(&self, index: usize, receiving: &mut Receiving, worker: &Worker) {
        worker.does(Act::Renew, receiving.fd.into(), index as i64);
        let Some(fd) = self.expect(sys::dup(receiving.fd), || "dup".into()) else { return };
        self.expect(sys::close(receiving.fd), || format!("close of {}", receiving.fd));
        receiving.fd = fd;
    }

    fn make_anew(&self, index: usize, channel: &Channel, worker: &Worker, dice: &mut Rng) {
        let mut sending = lock(&channel.sending);
        let mut receiving = lock(&channel.receiving);
        // Only when all was read, by receivers.
        if !sending.finish() || channel.is_unread() {
            return;
        }
        let generation = receiving.generation;
        let was_removed = !receiving.is_ghost && dice.bool();
        if was_removed {
            self.remove(index, &receiving, worker);
        }
        worker.does(Act::Renew, receiving.fd.into(), index as i64);
        let made = channel.make_anew(&mut sending, &mut receiving, &self.maker, dice);
        if self.expect(made, || format!("making channel {index} anew")).is_none() {
            return;
        }
        // A child of fork may have the file still, and natively its item.
        if !was_removed && self.plan.forkers == 0 {
            self.is_gone(index, generation, now() + AFTERWARDS);
        }
        self.counts.renewed.fetch_add(1, Ordering::Relaxed);
        self.register(index, &mut receiving, dice);
    }

    /// A file, or an instance with a file, that is registered and closed at once, ready or not. Edge-triggered, for
    /// who is told of it does not read it.
    fn pass(&self, worker: &Worker, dice: &mut Rng) {
        let instance = dice.usize(..INSTANCES);
        worker.does(Act::Control, instance as i64, -1);
        let epoll = self.instances[instance];
        let mut own = [NO_EVENT; 2];
        let passed = (|| {
            let [read_end, write_end] = sys::pipe()?;
            let inner = sys::epoll()?;
            let mask = sys::IN | sys::ET;
            sys::add(inner, read_end, mask, data(TAG_STOP, 0, 0))?;
            if dice.bool() {
                sys::add(epoll, inner, mask, data(TAG_STOP, 0, 0))?;
            } else {
                sys::add(epoll, read_end, mask, data(TAG_STOP, 0, 0))?;
            }
            sys::write(write_end, b"p")?;
            let found = loop {
                match sys::wait(inner, &mut own, 0) {
                    Err(libc::EINTR) => {}
                    found => break found?,
                }
            };
            if dice.bool() {
                sys::close(inner)?;
                sys::close(read_end)?;
            } else {
                sys::close(read_end)?;
                sys::close(inner)?;
            }
            sys::close(write_end)?;
            Ok(found)
        })();
        if let Some(found) = self.expect(passed, || "registering a pipe and closing it".into())
            && found != 1
        {
            self.faults.add(format!("a pipe that was written is told {found} times"));
        }
    }
}
