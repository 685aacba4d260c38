//! The text form of scripts: one operation a line, `#` begins a comment.

use std::fmt;
use std::str::{FromStr, SplitWhitespace};

use crate::script::{Action, Amount, Errand, Half, Op, Target, Way};

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Bytes(count) => write!(f, "{count}"),
            Amount::All => f.write_str("all"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Plain => "plain",
            Way::Vector => "vector",
            Way::Message => "message",
            Way::Foreign => "foreign",
        })
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Half::Read => "read",
            Half::Write => "write",
            Half::Both => "both",
        })
    }
}

impl fmt::Display for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::Write => f.write_str("write"),
            Self::Shutdown(half) => write!(f, "shutdown {half}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::File(label) => write!(f, "d{label}"),
            Target::Stale(label) => write!(f, "s{label}"),
            Target::Instance(label) => write!(f, "e{label}"),
            Target::None => f.write_str("-1"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Add => "add",
            Action::Mod => "mod",
            Action::Del => "del",
            Action::Bad => "bad-op",
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Open(kind) => write!(f, "open {kind}"),
            Op::Instance => write!(f, "instance"),
            Op::DupInstance(epoll) => write!(f, "dup-instance e{epoll}"),
            Op::CloseInstance(epoll) => write!(f, "close-instance e{epoll}"),
            Op::Ctl { epoll, action, target, mask } => {
                write!(f, "{action} e{epoll} {target} {mask}")
            }
            Op::Wait { epoll, max } => write!(f, "wait e{epoll} {max}"),
            Op::Sleep { epoll, millis } => write!(f, "sleep e{epoll} {millis}"),
            Op::Beside { epoll, fd, errand } => write!(f, "beside e{epoll} d{fd} {errand}"),
            Op::Rounds { epoll, max } => write!(f, "rounds e{epoll} {max}"),
            Op::Poll { epoll } => write!(f, "poll e{epoll}"),
            Op::Select { epoll } => write!(f, "select e{epoll}"),
            Op::Read { fd, amount, way } => write!(f, "read d{fd} {amount} {way}"),
            Op::Write { fd, amount, way } => write!(f, "write d{fd} {amount} {way}"),
            Op::Urgent(fd) => write!(f, "urgent d{fd}"),
            Op::Splice { from, to, amount } => write!(f, "splice d{from} d{to} {amount}"),
            Op::Shutdown { fd, half } => write!(f, "shutdown d{fd} {half}"),
            Op::Connect(listener) => write!(f, "connect d{listener}"),
            Op::ConnectTo { fd, listener } => write!(f, "connect-to d{fd} d{listener}"),
            Op::Accept(fd) => write!(f, "accept d{fd}"),
            Op::Listen(fd) => write!(f, "listen d{fd}"),
            Op::Close(fd) => write!(f, "close d{fd}"),
            Op::Reset(fd) => write!(f, "reset d{fd}"),
            Op::Dup(fd) => write!(f, "dup d{fd}"),
            Op::DupFd(fd) => write!(f, "dupfd d{fd}"),
            Op::Dup2 { from, onto } => write!(f, "dup2 d{from} d{onto}"),
            Op::Dup3 { from, onto } => write!(f, "dup3 d{from} d{onto}"),
            Op::CloseRange { fd, count } => write!(f, "close-range d{fd} {count}"),
            Op::Reopen { fd, write: true } => write!(f, "reopen d{fd} write"),
            Op::Reopen { fd, write: false } => write!(f, "reopen d{fd} read"),
            Op::Arm { fd, millis } => write!(f, "arm d{fd} {millis}"),
            Op::Raise(second) => write!(f, "raise {}", if *second { 2 } else { 1 }),
            Op::Kill(fd) => write!(f, "kill d{fd}"),
            Op::Touch(fd) => write!(f, "touch d{fd}"),
            Op::Fork { epoll } => write!(f, "fork e{epoll}"),
            Op::Pause { millis } => write!(f, "pause {millis}"),
        }
    }
}

/// The words of a line, taken one by one.
struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "a word is missing".to_string())
    }

    fn parse<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("not understood: {word}"))
    }

    fn label(&mut self, letter: char) -> Result<u8, String> {
        let word = self.word()?;
        let number = word.strip_prefix(letter).and_then(|digits| digits.parse().ok());
        number.ok_or_else(|| format!("no label: {word}"))
    }

    fn fd(&mut self) -> Result<u8, String> {
        self.label('d')
    }

    fn epoll(&mut self) -> Result<u8, String> {
        self.label('e')
    }

    fn one_of<T: Copy + fmt::Display>(&mut self, all: &[T]) -> Result<T, String> {
        let word = self.word()?;
        let found = all.iter().find(|one| one.to_string() == word).copied();
        found.ok_or_else(|| format!("not understood: {word}"))
    }

    fn half(&mut self) -> Result<Half, String> {
        self.one_of(&[Half::Read, Half::Write, Half::Both])
    }

    fn way(&mut self) -> Result<Way, String> {
        self.one_of(&[Way::Plain, Way::Vector, Way::Message, Way::Foreign])
    }

    fn amount(&mut self) -> Result<Amount, String> {
        let word = self.word()?;
        if word == "all" {
            return Ok(Amount::All);
        }
        word.parse().map(Amount::Bytes).map_err(|_| format!("no amount: {word}"))
    }

    fn target(&mut self) -> Result<Target, String> {
        let word = self.word()?;
        let no_label = || format!("no label: {word}");
        if word == Target::None.to_string() {
            return Ok(Target::None);
        }
        let mut letters = word.chars();
        let letter = letters.next();
        let label = letters.as_str().parse().map_err(|_| no_label())?;
        match letter {
            Some('d') => Ok(Target::File(label)),
            Some('s') => Ok(Target::Stale(label)),
            Some('e') => Ok(Target::Instance(label)),
            _ => Err(no_label()),
        }
    }
}

impl FromStr for Op {
    type Err = String;
    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = Words(line.split_whitespace());
        let words = &mut words;
        let ctl = |action, words: &mut Words<'_>| {
            let (epoll, target) = (words.epoll()?, words.target()?);
            Ok(Op::Ctl { epoll, action, target, mask: words.word()?.parse()? })
        };
        Ok(match words.word()? {
            "open" => Op::Open(words.word()?.parse()?),
            "instance" => Op::Instance,
            "dup-instance" => Op::DupInstance(words.epoll()?),
            "close-instance" => Op::CloseInstance(words.epoll()?),
            "add" => return ctl(Action::Add, words),
            "mod" => return ctl(Action::Mod, words),
            "del" => return ctl(Action::Del, words),
            "bad-op" => return ctl(Action::Bad, words),
            "wait" => Op::Wait { epoll: words.epoll()?, max: words.parse()? },
            "sleep" => Op::Sleep { epoll: words.epoll()?, millis: words.parse()? },
            "beside" => Op::Beside {
                epoll: words.epoll()?,
                fd: words.fd()?,
                errand: match words.word()? {
                    "read" => Errand::Read,
                    "write" => Errand::Write,
                    "shutdown" => Errand::Shutdown(words.half()?),
                    other => return Err(format!("not understood: {other}")),
                },
            },
            "rounds" => Op::Rounds { epoll: words.epoll()?, max: words.parse()? },
            "poll" => Op::Poll { epoll: words.epoll()? },
            "select" => Op::Select { epoll: words.epoll()? },
            "read" => Op::Read { fd: words.fd()?, amount: words.amount()?, way: words.way()? },
            "write" => Op::Write { fd: words.fd()?, amount: words.amount()?, way: words.way()? },
            "urgent" => Op::Urgent(words.fd()?),
            "splice" => Op::Splice { from: words.fd()?, to: words.fd()?, amount: words.parse()? },
            "shutdown" => Op::Shutdown { fd: words.fd()?, half: words.half()? },
            "connect" => Op::Connect(words.fd()?),
            "connect-to" => Op::ConnectTo { fd: words.fd()?, listener: words.fd()? },
            "accept" => Op::Accept(words.fd()?),
            "listen" => Op::Listen(words.fd()?),
            "close" => Op::Close(words.fd()?),
            "reset" => Op::Reset(words.fd()?),
            "dup" => Op::Dup(words.fd()?),
            "dupfd" => Op::DupFd(words.fd()?),
            "dup2" => Op::Dup2 { from: words.fd()?, onto: words.fd()? },
            "dup3" => Op::Dup3 { from: words.fd()?, onto: words.fd()? },
            "close-range" => Op::CloseRange { fd: words.fd()?, count: words.parse()? },
            "reopen" => Op::Reopen { fd: words.fd()?, write: words.word()? == "write" },
            "arm" => Op::Arm { fd: words.fd()?, millis: words.parse()? },
            "raise" => Op::Raise(words.word()? == "2"),
            "kill" => Op::Kill(words.fd()?),
            "touch" => Op::Touch(words.fd()?),
            "fork" => Op::Fork { epoll: words.epoll()? },
            "pause" => Op::Pause { millis: words.parse()? },
            word => return Err(format!("no operation: {word}")),
        })
    }
}

/// Reads a script.
///
/// # Errors
/// A sentence that names the line.
pub fn parse(text: &str) -> Result<Vec<Op>, String> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index, line.split('#').next().unwrap_or_default().trim()))
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| line.parse().map_err(|error| format!("line {}: {error}", index + 1)))
        .collect()
}

/// Writes a script.
pub fn print(script: &[Op]) -> String {
    script.iter().map(|op| format!("{op}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_read_or_refused() {
        assert!(parse("add e0 é IN\n").is_err());
        assert_eq!(parse("add e0 -1 IN\n").map(|script| script.len()), Ok(1));
    }

    #[test]
    fn what_is_written_can_be_read() {
        for seed in 0..50 {
            let script = crate::generate::script(seed, 200, &crate::generate::Wishes::default());
            assert_eq!(parse(&print(&script)), Ok(script));
        }
    }
}
