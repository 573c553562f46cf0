//! A herd of servers that know where clients are, on a hand-written readiness loop.
#![forbid(unsafe_code)]

pub mod args;
pub mod config;
pub mod connections;
pub mod event_loop;
pub mod herd;
pub mod limits;
pub mod logging;
pub mod places;
pub mod protocol;
pub mod supervisor;
