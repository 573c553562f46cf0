//! A herd of servers that know where clients are, on a hand-written readiness loop over mio.
//!
//! ```text
//!   protocol, herd, places     what to say: values and state machines; bytes in, bytes out,
//!           ^                  the time as an argument
//!   connections                what is on the other end: a client, a caller, a link, a service
//!           ^
//!   event_loop                 when: readiness, timers, wake-ups, slots
//!           ^
//!   main, supervisor           processes: command line, configuration, log, signals
//! ```
//!
//! Each layer uses only those above it in the picture. What none may do:
//!
//! | layer | never |
//! |---|---|
//! | [`protocol`], [`herd`], [`places`] | a socket, a clock, a thread, a file, a log record |
//! | [`connections`] | a socket, a poll, a thread, a file |
//! | [`event_loop`] | know what a line says; it alone names mio |
//!
//! Where to begin reading: [`event_loop`], whose turn is one function that reads like a list.
//! Then one line's way: `event_loop/serve.rs` reads and frames it, [`connections`] knows who said
//! it, [`protocol`] what it means, [`herd`] what becomes of it, and a link takes it from the feed
//! to the neighbours. `docs/one-line.md` walks it step by step; `docs/the-loop.md` tells what can
//! go wrong in a loop, and how this one avoids it.
#![forbid(unsafe_code)]

pub mod application;
pub mod args;
pub mod certificates;
pub mod clock;
pub mod config;
pub mod connections;
pub mod errors;
pub mod event_loop;
pub mod files;
pub mod herd;
pub mod http;
pub mod limits;
pub mod logging;
pub mod places;
pub mod process;
pub mod protocol;
pub mod supervisor;
