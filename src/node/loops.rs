//! Several loops in one server (`loops` in the configuration), each on a thread of its own.
//!
//! They share the clients' port, over whose listeners the kernel spreads newcomers, and nothing else:
//! each has its own connections, its own pool of those with the Places service, its own table. They
//! synchronise as servers do, over the same feed, as neighbours that are linked by a pair of sockets within
//! the process. The first loop is the server for everybody else: it alone has neighbours outside,
//! receives signals, and ends last.
//!
//! ```text
//!      clients                clients                    neighbours
//!         |                      |                           |
//!         v                      v                           v
//!     +---------+   pairs   +---------+   links (TCP)   +---------+
//!     | Welsh/2 | <-------> |  Welsh  | <-------------> | Holiday |
//!     +---------+           +---------+                 +---------+
//! ```
//!
//! The price is that of asking another server: a client that sends by one connection and asks by another
//! may meet a loop that has not received the update yet.

use std::thread;

use super::{RunError, ServerLoop, kernel};
use crate::application::LoopId;
use crate::event_loop::{Mailbox, Stopped};
use crate::logging::{self, target};
use crate::server::{FIRST_LOOP, Message, Server};

/// Starts the further loops of a server, each on a thread. The first one knows all of them, and they know it.
/// The threads are never joined: each reports its end to the first loop, and a second signal must not wait for
/// anything.
pub(super) fn start(first: &mut ServerLoop, further: Vec<ServerLoop>) -> Result<(), RunError> {
    for (place, mut next) in further.into_iter().enumerate() {
        let number = LoopId(place as u16 + 1);
        first.know(number, FIRST_LOOP, next.mailbox());
        next.know(FIRST_LOOP, number, first.mailbox());
        first.also_stop(next.mailbox());
        let home = first.mailbox();
        thread::Builder::new()
            .name(next.application().log_name().to_owned())
            .spawn(move || {
                logging::set_loop_number(number.0 + 1);
                let mut guard = ExitGuard { home, result: None };
                guard.result = Some(run(next));
            })
            .map_err(kernel("start a loop's thread"))?;
    }
    Ok(())
}

fn run(event_loop: ServerLoop) -> Result<(), String> {
    let reason = |error| kernel("wait for events")(error).to_string();
    let stopped = event_loop.run().map_err(reason)?;
    record(&stopped);
    Ok(())
}

fn record(stopped: &Stopped<Server>) {
    if stopped.grace_expired {
        super::record_unfinished(stopped);
    }
    log::info!(target: target::LOOP, event = "stopped"; "{} has stopped.", stopped.app.log_name());
}

/// Reports to the first loop how a further one has ended, even if it was by a panic.
struct ExitGuard {
    home: Mailbox<Message>,
    result: Option<Result<(), String>>,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let panicked = || Err("can't go on: one of its loops panicked".to_owned());
        let result = self.result.take().unwrap_or_else(panicked);
        // Before the first loop may end the process: this thread's records would leave with the thread.
        logging::submit();
        // The first loop may have ended already; then nobody is left who must know.
        let _ = self.home.send(Message::LoopEnded(result));
    }
}
