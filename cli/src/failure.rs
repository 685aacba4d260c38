//! Why a program was not started: the exit status and the sentence for the user.

/// Exit status when uepoll itself failed, as env(1) and timeout(1) have it.
pub const OWN: u8 = 125;
/// Exit status when the program is there but cannot be run, or not with a preloaded library.
pub const CANNOT: u8 = 126;
/// Exit status when the program is not there.
pub const MISSING: u8 = 127;

/// A failure; the sentence says what a user can do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status: [`OWN`], [`CANNOT`] or [`MISSING`].
    pub status: u8,
    /// One sentence, without the name of the command before it.
    pub sentence: String,
}

impl Failure {
    /// uepoll itself failed.
    pub fn own(sentence: impl Into<String>) -> Self {
        Self::new(OWN, sentence)
    }

    /// The program cannot be run or reached.
    pub fn cannot(sentence: impl Into<String>) -> Self {
        Self::new(CANNOT, sentence)
    }

    /// There is no such program.
    pub fn missing(sentence: impl Into<String>) -> Self {
        Self::new(MISSING, sentence)
    }

    fn new(status: u8, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into() }
    }
}
