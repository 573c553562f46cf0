//! Several loops in one server (`loops` in the configuration), each on a thread of its own. They share only
//! the clients' port: the kernel distributes new connections over its listeners. Each loop has its own
//! connections, its own pool of connections with the Places service, and its own table. The loops synchronise
//! as servers do, over a feed, as neighbours that are linked by a pair of sockets within the process; the updates
//! themselves are handed over as values (`src/server/handover.rs`), so that no line is read twice. To other
//! processes the first loop is the server: it alone has neighbours in other processes, receives signals, and
//! ends last.
//!
//! ```text
//!      clients                clients                    neighbours
//!         |                      |                           |
//!         v                      v                           v
//!     +---------+   pairs   +---------+   links (TCP)   +---------+
//!     | Welsh/2 | <-------> |  Welsh  | <-------------> | Holiday |
//!     +---------+           +---------+                 +---------+
//! ```
//! The disadvantage: a client that sends an update on one connection and a query on another may reach a loop
//! that has not received the update yet, as with two servers.

use std::sync::Arc;
use std::thread;

use super::{RunError, ServerLoop, kernel, proc};
use crate::application::LoopId;
use crate::event_loop::Mailbox;
use crate::logging;
use crate::server::admin::Post;
use crate::server::metrics::StateSource;
use crate::server::{AllMetrics, FIRST_LOOP, Failure, Message, handovers};

/// Lets the first loop read the counters of all loops, and each loop its own.
pub(super) fn share_metrics(
    first: &mut ServerLoop,
    further: &mut [ServerLoop],
    state: Option<Arc<dyn StateSource>>,
) {
    let mut all = AllMetrics { loops: Vec::new(), process: Some(proc::read), state };
    let mut of = |server_loop: &mut ServerLoop| {
        let own = server_loop.metrics();
        all.loops.push((own, server_loop.application().metrics()));
    };
    of(first);
    further.iter_mut().for_each(&mut of);
    let known = all.loops[0].0.clone();
    first.application().know_metrics(known, all);
    for next in further {
        let known = next.metrics();
        next.application().know_metrics(known, AllMetrics::default());
    }
}

/// Starts the further loops of a server, each on a thread. Each is linked with the first loop. The threads are
/// never joined: each reports its end to the first loop, and after a second signal nothing may wait.
pub(super) fn start(
    first: &mut ServerLoop,
    mut further: Vec<ServerLoop>,
    state: Option<Arc<dyn StateSource>>,
) -> Result<(), RunError> {
    share_metrics(first, &mut further, state);
    let posts = further.iter().map(|next| post(next.mailbox())).collect();
    first.application().know_loops(posts);
    for next in &mut further {
        next.application().know_loops(vec![post(first.mailbox())]);
    }
    for (place, mut next) in further.into_iter().enumerate() {
        let number = LoopId(place as u16 + 1);
        let (ours, theirs) = handovers();
        first.application().know_handover(number, ours);
        next.application().know_handover(FIRST_LOOP, theirs);
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

/// A way to a loop.
fn post(mailbox: Mailbox<Message>) -> Post {
    Box::new(move |message| mailbox.send(message).is_ok())
}

fn run(event_loop: ServerLoop) -> Result<(), Failure> {
    let failure = |error| Failure::Loop(kernel("wait for events")(error).to_string());
    let mut stopped = event_loop.run().map_err(failure)?;
    super::record_end(&stopped);
    stopped.app.take_failure().map_or(Ok(()), Err)
}

/// Reports to the first loop how a further one has ended, even if it was by a panic.
struct ExitGuard {
    home: Mailbox<Message>,
    result: Option<Result<(), Failure>>,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        let panicked = || Err(Failure::Loop("can't go on: one of its loops panicked".to_owned()));
        let result = self.result.take().unwrap_or_else(panicked);
        // Before the first loop may end the process: otherwise this thread's records would be lost.
        logging::submit();
        // The first loop may have ended already; then no report is needed.
        let _ = self.home.send(Message::LoopEnded(result));
    }
}
