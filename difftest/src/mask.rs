//! Event masks, with their names.

use std::fmt;
use std::str::FromStr;

/// `epoll_event.events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mask(pub u32);

impl Mask {
    /// EPOLLONESHOT
    pub const ONESHOT: u32 = 1 << 30;
    /// EPOLLET
    pub const ET: u32 = 1 << 31;

    /// All bits that have names.
    pub const NAMES: [(u32, &str); 15] = [
        (0x001, "IN"),
        (0x002, "PRI"),
        (0x004, "OUT"),
        (0x008, "ERR"),
        (0x010, "HUP"),
        (0x040, "RDNORM"),
        (0x080, "RDBAND"),
        (0x100, "WRNORM"),
        (0x200, "WRBAND"),
        (0x400, "MSG"),
        (0x2000, "RDHUP"),
        (1 << 28, "EXCLUSIVE"),
        (1 << 29, "WAKEUP"),
        (Self::ONESHOT, "ONESHOT"),
        (Self::ET, "ET"),
    ];

    /// Whether an event of this registration is told once, not at every wait.
    pub fn is_once(self) -> bool {
        self.0 & (Self::ET | Self::ONESHOT) != 0
    }

    /// Whether all bits of another mask are in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        let mut names = Vec::new();
        for (bit, name) in Self::NAMES {
            if left & bit != 0 {
                names.push(name.to_string());
                left &= !bit;
            }
        }
        if left != 0 || names.is_empty() {
            names.push(format!("{left:#x}"));
        }
        f.write_str(&names.join("|"))
    }
}

impl FromStr for Mask {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut bits = 0;
        for word in text.split('|') {
            bits |= match Self::NAMES.iter().find(|(_, name)| *name == word) {
                Some((bit, _)) => *bit,
                None => word
                    .strip_prefix("0x")
                    .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                    .ok_or_else(|| format!("no event bit: {word}"))?,
            };
        }
        Ok(Self(bits))
    }
}
