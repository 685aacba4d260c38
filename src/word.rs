//! What is known of one descriptor number, packed into one word.

use bitflags::bitflags;

use crate::files::Kind;

bitflags! {
    /// What somebody in this process has to do with a descriptor number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u64 {
        /// Some interest list has an item on it.
        const WATCHED = 1 << 0;
        /// It is an epoll instance; its slot stands in [`Entry::slot_of_epoll`].
        const EPOLL = 1 << 1;
        /// It is a descriptor of the library: the program does not have it.
        const OURS = 1 << 2;
        /// An edge-triggered item wants to hear of the program's reads and writes.
        const EVIDENCE = 1 << 3;
        /// Another number has, or had, the same open file.
        const DUPED = 1 << 4;
        /// It is in a poll set: who sleeps on that set holds the file open.
        const HELD = 1 << 5;
        /// Made by this process for itself: no other process can have it.
        const PRIVATE = 1 << 6;
        /// A pipe or socket pair whose other end is known ([`Entry::peer`]), or an eventfd, which is its own.
        const PEERED = 1 << 7;
        /// The program shut its reading side: RDHUP is no sign of the other side's end.
        const DEAF = 1 << 8;
        /// The program shut its writing side.
        const MUTE = 1 << 9;
    }
}

const KIND_SHIFT: u32 = 10;
const HOLDER_SHIFT: u32 = 14;
pub(crate) const FILE_SHIFT: u32 = 30;
const FLAGS_MASK: u64 = 0x3ff;
const HOLDER_MASK: u64 = 0xffff;

/// The slot of the one instance that watches a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(u16);

impl Holder {
    /// Nobody watches it.
    pub const NONE: Self = Self(0);
    /// More than one instance watches it, or did.
    pub const SEVERAL: Self = Self(u16::MAX);

    /// The holder that stands for the instance in `slot`.
    pub fn slot(slot: u16) -> Self {
        Self(slot + 1)
    }

    /// The slot, where it is one.
    pub fn as_slot(self) -> Option<u16> {
        (self != Self::NONE && self != Self::SEVERAL).then(|| self.0 - 1)
    }
}

/// An open file description's identity within this process: what dup'ed numbers share, and a number that was closed and
/// opened again does not. 0 is a file that nobody had to tell apart yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FileId(pub(crate) u64);

impl FileId {
    /// Not told apart yet.
    pub const UNKNOWN: Self = Self(0);
}

/// A snapshot of a number's word. 0: nothing is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub(crate) u64);

impl Word {
    /// Nothing known.
    pub const EMPTY: Self = Self(0);

    /// Its flags.
    #[inline]
    pub fn flags(self) -> Flags {
        Flags::from_bits_retain(self.0 & FLAGS_MASK)
    }

    /// Whether it has any of these flags.
    #[inline]
    pub fn is(self, flags: Flags) -> bool {
        self.0 & flags.bits() != 0
    }

    /// What kind of file it is.
    pub fn kind(self) -> Kind {
        Kind::from_nibble((self.0 >> KIND_SHIFT & 0xf) as u8)
    }

    /// Who watches it.
    pub fn holder(self) -> Holder {
        Holder((self.0 >> HOLDER_SHIFT & HOLDER_MASK) as u16)
    }

    /// Which open file it is.
    pub fn file(self) -> FileId {
        FileId(self.0 >> FILE_SHIFT)
    }

    /// This word with these flags beside its own.
    pub fn with(self, flags: Flags) -> Self {
        Self(self.0 | flags.bits())
    }

    /// This word without these flags.
    pub fn without(self, flags: Flags) -> Self {
        Self(self.0 & !flags.bits())
    }

    /// This word with that kind.
    pub fn with_kind(self, kind: Kind) -> Self {
        Self(self.0 & !(0xf << KIND_SHIFT) | u64::from(kind as u8) << KIND_SHIFT)
    }

    /// This word with that holder.
    pub fn with_holder(self, holder: Holder) -> Self {
        Self(self.0 & !(HOLDER_MASK << HOLDER_SHIFT) | u64::from(holder.0) << HOLDER_SHIFT)
    }

    /// This word with that file.
    pub fn with_file(self, file: FileId) -> Self {
        Self(self.0 & ((1 << FILE_SHIFT) - 1) | file.0 << FILE_SHIFT)
    }
}
