//! The command as its users meet it: the built binary, real programs, exit statuses and messages.

mod common;
mod refusals;
mod run;
mod secure;
mod witness;
