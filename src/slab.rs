//! Where the items of an instance are: places, found by index.
//!
//! They are made in chunks that never move. A vector that doubles would leave its old halves behind in the heap, which is
//! as much memory again.

use crate::backend::Key;
use crate::faults::make_room;
use crate::interest::Item;

/// Places of a chunk.
const CHUNK: usize = 64;

/// No place.
const NONE: u32 = u32::MAX;

/// One place. `serial` counts the items that had it.
enum Place {
    Free { serial: u32, next: u32 },
    Taken(Item),
}

/// The places.
pub struct Slab {
    chunks: Vec<Box<[Place; CHUNK]>>,
    /// Places that were ever taken; those after them are fresh.
    len: u32,
    /// The first free one of them, and so on by `next`.
    free: u32,
}

impl Default for Slab {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0, free: NONE }
    }
}

impl Slab {
    fn place(&self, index: u32) -> Option<&Place> {
        Some(&self.chunks.get(index as usize / CHUNK)?[index as usize % CHUNK])
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place> {
        Some(&mut self.chunks.get_mut(index as usize / CHUNK)?[index as usize % CHUNK])
    }

    /// The item of a place.
    pub fn get(&self, index: u32) -> Option<&Item> {
        match self.place(index)? {
            Place::Taken(item) => Some(item),
            Place::Free { .. } => None,
        }
    }

    /// The item of a place, to change it.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Item> {
        match self.place_mut(index)? {
            Place::Taken(item) => Some(item),
            Place::Free { .. } => None,
        }
    }

    /// One past the highest place that was ever taken.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Makes room for one more item, and says which key it will have. `None`: there is no memory.
    pub fn reserve(&mut self) -> Option<Key> {
        if self.free == NONE && self.len as usize == self.chunks.len() * CHUNK {
            make_room(|| self.chunks.try_reserve(1)).ok()?;
            let mut chunk = Vec::new();
            make_room(|| chunk.try_reserve_exact(CHUNK)).ok()?;
            chunk.resize_with(CHUNK, || Place::Free { serial: 0, next: NONE });
            self.chunks.push(chunk.into_boxed_slice().try_into().ok()?);
        }
        let index = if self.free == NONE { self.len } else { self.free };
        match self.place(index)? {
            Place::Free { serial, .. } => Some(Key { index, serial: *serial }),
            Place::Taken(_) => None,
        }
    }

    /// Puts an item where [`Slab::reserve`] said, and gives it the serial of that key.
    pub fn insert(&mut self, mut item: Item) -> Option<Key> {
        let key = self.reserve()?;
        item.set_serial(key.serial);
        let place = self.place_mut(key.index)?;
        let Place::Free { next, .. } = std::mem::replace(place, Place::Taken(item)) else {
            return None;
        };
        if key.index == self.len {
            self.len += 1;
        } else {
            self.free = next;
        }
        Some(key)
    }

    /// Takes an item out.
    pub fn remove(&mut self, index: u32) -> Option<Item> {
        let next = self.free;
        let place = self.place_mut(index)?;
        let serial = match place {
            Place::Taken(item) => item.serial().wrapping_add(1),
            Place::Free { .. } => return None,
        };
        let Place::Taken(item) = std::mem::replace(place, Place::Free { serial, next }) else {
            return None;
        };
        self.free = index;
        Some(item)
    }
}
