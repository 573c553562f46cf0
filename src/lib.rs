//! A herd of servers that keep track of where clients are, on a hand-written event loop over mio.
//!
//! ```text
//!   cli -----> node ------+----------------> event_loop ---> tls     when: readiness, sockets,
//!    \          |  \      |                      |                   buffers, timers, threads
//!     \         |   \     v                      v
//!      +----> config +-> server, places_server -> application        the border: a trait and values
//!                             |
//!                             v
//!                    herd   places   http ------> protocol           what to say: values and
//!                                                                    state machines
//! ```
//! A folder names only those to which its arrows lead; `tests/tidy.rs` has the table. No layer uses
//! anything in the right column:
//!
//! | layer | never |
//! |---|---|
//! | [`protocol`], [`http`], [`nats`], [`herd`], [`places`] | a socket, a clock, a thread, a file, a log record |
//! | [`application`] | a poll, a socket, TLS, the meaning of a line |
//! | [`event_loop`] | the meaning of a line, a log record, the configuration; it alone names mio |
//! | [`server`], [`places_server`] | a socket, a poll, a thread, a file |
//!
//! A reading order:
//!
//! 1. `examples/echo.rs` and `examples/chat.rs`: two small programs on the loop.
//! 2. [`application`]: the trait between the loop and such a program.
//! 3. [`event_loop`]: the turn is one function that reads like a list; then `serve.rs`, `lines.rs`,
//!    `connection.rs`.
//! 4. [`server`]: the herd's server as such a program; `session.rs` is its border, `client.rs` what a
//!    client may send.
//! 5. [`herd`]: how an update is applied; [`protocol`]: how a line is parsed.
//!
//! `docs/one-line.md` walks one line through all of it; `docs/the-loop.md` explains what can go wrong in
//! a loop, and how this one avoids it; `docs/architecture.md` says where a change goes.
#![forbid(unsafe_code)]

pub mod addresses;
pub mod application;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection_records;
pub mod errors;
pub mod event_loop;
pub mod files;
pub mod herd;
pub mod http;
pub mod limits;
pub mod logging;
pub mod nats;
pub mod node;
pub mod places;
pub mod places_server;
pub mod protocol;
pub mod server;
pub mod state;
pub mod tls;
