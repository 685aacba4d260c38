//! Whether exec would give a program privileges. The kernel then sets AT_SECURE, and the loader ignores every entry of
//! LD_PRELOAD that has a slash in it (ld.so(8)). Pure, but for [`Caller::current`].

use rustix::process::{getegid, geteuid, getgid, getuid};

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;

/// Who calls exec.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Real and effective user.
    pub user: (u32, u32),
    /// Real and effective group.
    pub group: (u32, u32),
    /// no_new_privs is set: exec ignores the set-ID bits.
    pub no_new_privs: bool,
}

impl Caller {
    /// This process, before --deny-kernel-epoll sets no_new_privs: a program that would then run without the privileges
    /// that its owner gave it is refused too.
    pub fn current() -> Self {
        Self {
            user: (getuid().as_raw(), geteuid().as_raw()),
            group: (getgid().as_raw(), getegid().as_raw()),
            no_new_privs: rustix::thread::no_new_privs().unwrap_or(false),
        }
    }
}

/// What a program file asks to be run as.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'file> {
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Its extended attribute security.capability.
    pub capabilities: Option<&'file [u8]>,
    /// Its file system is mounted nosuid: exec ignores all of the above.
    pub nosuid: bool,
}

/// Why the loader will ignore LD_PRELOAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// Real and effective ids of the caller differ already.
    Caller,
    /// A set-user-ID or set-group-ID bit changes an id.
    SetId,
    /// The file carries capabilities.
    Capabilities,
}

/// Whether, and why, exec sets AT_SECURE; the rules are those of execve(2) and capabilities(7).
pub fn secure(asks: &Asks, caller: &Caller) -> Option<Secure> {
    if caller.user.0 != caller.user.1 || caller.group.0 != caller.group.1 {
        return Some(Secure::Caller);
    }
    if asks.nosuid {
        return None;
    }
    let set_user = asks.mode & SET_USER != 0 && asks.user != caller.user.0;
    // Without the group's execute bit, set-group-ID marks a file for mandatory locking instead.
    let both = SET_GROUP | GROUP_EXECUTE;
    let set_group = asks.mode & both == both && asks.group != caller.group.0;
    if !caller.no_new_privs && (set_user || set_group) {
        return Some(Secure::SetId);
    }
    let root = caller.user.0 == 0;
    if !root && asks.capabilities.is_some_and(grants) {
        return Some(Secure::Capabilities);
    }
    None
}

/// Whether the attribute (struct vfs_cap_data, little-endian words) sets the effective bit or permits anything.
fn grants(attribute: &[u8]) -> bool {
    let words: Vec<u32> = attribute
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    // magic and flags; permitted, inheritable; the same again for the capabilities from 32 on.
    let effective = words.first().is_some_and(|flags| flags & 1 != 0);
    effective || [1, 3].iter().any(|&at| words.get(at).is_some_and(|&word| word != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Caller = Caller { user: (1000, 1000), group: (100, 100), no_new_privs: false };
    const PLAIN: Asks = Asks { mode: 0o755, user: 0, group: 0, capabilities: None, nosuid: false };
    const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn table() {
        let root = Caller { user: (0, 0), group: (0, 0), ..USER };
        let locked = Caller { no_new_privs: true, ..USER };
        let raised = Caller { user: (1000, 0), ..USER };
        let set_user = Asks { mode: 0o4755, ..PLAIN };
        let set_group = Asks { mode: 0o2755, ..PLAIN };
        let capable = Asks { capabilities: Some(&NET_RAW), ..PLAIN };
        for (name, asks, caller, expected) in [
            ("plain", PLAIN, USER, None),
            ("set-user-ID", set_user, USER, Some(Secure::SetId)),
            ("set-group-ID", set_group, USER, Some(Secure::SetId)),
            ("to oneself", Asks { user: 1000, ..set_user }, USER, None),
            ("to one's group", Asks { group: 100, ..set_group }, USER, None),
            ("locking bit", Asks { mode: 0o2745, ..PLAIN }, USER, None),
            ("root to root", set_user, root, None),
            ("root to other", Asks { user: 5, ..set_user }, root, Some(Secure::SetId)),
            ("no_new_privs", set_user, locked, None),
            ("nosuid", Asks { nosuid: true, ..set_user }, USER, None),
            ("capable", capable, USER, Some(Secure::Capabilities)),
            ("capable, no_new_privs", capable, locked, Some(Secure::Capabilities)),
            ("capable, nosuid", Asks { nosuid: true, ..capable }, USER, None),
            ("capable, root", capable, root, None),
            ("no capability", Asks { capabilities: Some(&[0; 20]), ..PLAIN }, USER, None),
            ("cut short", Asks { capabilities: Some(&[1]), ..PLAIN }, USER, None),
            ("raised already", PLAIN, raised, Some(Secure::Caller)),
        ] {
            assert_eq!(secure(&asks, &caller), expected, "{name}");
        }
    }
}
