//! The races of the engine, by name, each under many schedules: `make models`. docs/RELIABILITY.md says what is modelled.
#![cfg(shuttle)]

mod close_and_reuse;
mod collect_and_deliver;
mod eject_and_sleep;
mod fork;
mod hand_over;
mod help;
mod park_and_event;
mod publish;
