//! Requests whose answer takes longer than a call: the session waits, and the reply comes from this loop's
//! inspection or from another loop.

use super::connections::Ask;
use super::pace;
use super::reply::Reply;
use super::routes::{Answer, Query};
use crate::application::{ConnectionId, Inspected, Ticket};
use crate::clock::Now;
use crate::limits::ADMIN_ANSWER_WAIT;
use crate::server::tls::PLAIN_CLIENTS;
use crate::server::{Message, Server, ServerCommand, Session};

/// A message between the loops of a server.
#[derive(Debug)]
pub enum AdminMessage {
    /// The first loop asks another one for its connections.
    Ask(Ask),
    /// The answer.
    Answer(Ticket, Reply),
}

/// Sends a message to another loop of this server; false if that has ended.
pub type Post = Box<dyn Fn(Message) -> bool + Send>;

/// What a loop needs to ask and to answer.
#[derive(Default)]
pub(in crate::server) struct Asking {
    /// In the first loop the ways to the others, in their order; in any other the way to the first.
    posts: Vec<Post>,
    /// Questions that wait for this loop's next inspection.
    asks: Vec<Ask>,
    /// The latest question. Each has a ticket of its own, so an answer that comes late is not taken for that to the next
    /// question of the same session.
    last: u64,
}

impl Server {
    /// The ways to other loops: in the first loop those to all others, in any other the one to the first.
    pub fn know_loops(&mut self, posts: Vec<Post>) {
        self.asking.posts = posts;
    }

    pub(super) fn ask_connz(
        &mut self,
        query: &str,
        id: ConnectionId,
        now: Now,
    ) -> Result<Answer, String> {
        let mut query = Query::parse(query)?;
        self.asking.last += 1;
        let ticket = Ticket(self.asking.last);
        let ask = Ask::parse(&mut query, ticket, self.all_metrics.loops.len())?;
        query.finish(crate::server::metrics::AdminPath::Connz)?;
        if let Some(admin) = &mut self.admin {
            let of_loop = self.all_metrics.loops.get(ask.number - 1);
            let classes = of_loop.iter().flat_map(|(metrics, _)| &metrics.classes);
            let connections = classes.map(|class| class.open.get()).sum();
            admin.pace.spend(pace::of_page(ask.limit(), connections), now.elapsed);
        }
        match ask.number.checked_sub(2).map(|place| self.asking.posts.get(place)) {
            None => self.inspect(ask),
            Some(Some(post)) if post(Message::Admin(AdminMessage::Ask(ask))) => {}
            Some(_) => {
                return Ok(Answer::Now(Reply::text(
                    503,
                    format!("loop {} has ended\n", ask.number),
                )));
            }
        }
        if let Some(admin) = &mut self.admin {
            admin.wait(id, ticket, now.elapsed + ADMIN_ANSWER_WAIT);
        }
        Ok(Answer::Later)
    }

    fn inspect(&mut self, ask: Ask) {
        self.commands.push_back(ServerCommand::Inspect(ask.ticket));
        self.asking.asks.push(ask);
    }

    pub(in crate::server) fn admin_message(&mut self, message: AdminMessage) {
        match message {
            AdminMessage::Ask(ask) => self.inspect(ask),
            AdminMessage::Answer(ticket, reply) => self.deliver(ticket, reply),
        }
    }

    pub(in crate::server) fn inspected(
        &mut self,
        ticket: Ticket,
        all: &mut dyn Iterator<Item = Inspected<'_, Session>>,
        now: Now,
    ) {
        if ticket == PLAIN_CLIENTS {
            return self.end_plain_clients(all);
        }
        let Some(place) = self.asking.asks.iter().position(|ask| ask.ticket == ticket) else {
            return;
        };
        let ask = self.asking.asks.swap_remove(place);
        let reply = self.connz(&ask, all, now);
        match self.asking.posts.first() {
            Some(home) if ask.number > 1 => {
                // The first loop ends last; if it has ended, nobody waits.
                let _ = home(Message::Admin(AdminMessage::Answer(ticket, reply)));
            }
            _ => self.deliver(ticket, reply),
        }
    }

    /// Gives a session the reply that it waits for, unless it is gone or has got an error instead.
    pub(super) fn deliver(&mut self, ticket: Ticket, reply: Reply) {
        if let Some(admin) = &mut self.admin
            && let Some(id) = admin.set_reply(ticket, reply)
        {
            self.commands.push_back(ServerCommand::Fill(id));
        }
    }
}
