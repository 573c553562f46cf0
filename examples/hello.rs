//! Hello: an HTTP server. A thread computes `/slow`; pipelined requests are answered in order.
//! Try it: `cargo run --example hello 4004`, and `curl localhost:4004/ localhost:4004/slow`.

use std::collections::{HashMap, VecDeque};

use herd_mio::application::{
    Application, ClosedConnection, Command, ConnectionId, Io, Job, ListenerId, Next, Opened, Policy,
};
use herd_mio::clock::Now;
use herd_mio::event_loop::{EventLoop, Limits, Listen};
use httparse::{EMPTY_HEADER, Request, Status};

#[derive(Default)]
struct Web {
    commands: VecDeque<Command<Done>>,
    /// Connections that wait for a job, and its result.
    waiting: HashMap<ConnectionId, Option<Done>>,
}

/// The connection that a job was for, whether this is its last answer, and the body.
type Done = (ConnectionId, bool, String);
/// Received bytes of requests that are not answered yet.
type Requests = Vec<u8>;

impl Application for Web {
    type Session = Requests;
    type Message = Done;

    fn handle_open(&mut self, _opened: Opened<'_>, _io: &mut Io<'_>) -> Option<(Requests, Policy)> {
        Some((Vec::new(), Policy::bytes()))
    }

    fn handle_bytes(&mut self, requests: &mut Requests, bytes: &[u8], io: &mut Io<'_>) -> Next {
        requests.extend_from_slice(bytes);
        for _ in 0..16 {
            let mut fields = [EMPTY_HEADER; 32];
            let mut request = Request::new(&mut fields);
            let length = match request.parse(requests) {
                Ok(Status::Complete(length)) if request.method == Some("GET") => length,
                Ok(Status::Partial) if requests.is_empty() => return Next::Read,
                Ok(Status::Partial) if requests.len() < 8 << 10 => return Next::Rest,
                _ => return respond("400 Bad Request", "what is that?", true, io),
            };
            let is_last = request.headers.iter().any(|field| field.value == b"close"); // Connection
            let (status, body) = match request.path {
                Some("/") => ("200 OK", "hello"),
                Some("/slow") => ("200 OK", ""),
                _ => ("404 Not Found", "there is / and /slow"),
            };
            requests.drain(..length);
            if body.is_empty() {
                let id = io.id;
                self.waiting.insert(id, None);
                let run = Box::new(move || (id, is_last, (1..=1_000_000).sum::<u64>().to_string()));
                let failed = Box::new(move |reason| (id, is_last, reason));
                self.commands.push_back(Command::Run(Job { name: "sum", run, failed }));
                return Next::Wait;
            }
            if respond(status, body, is_last, io) == Next::Finish {
                return Next::Finish;
            }
        }
        Next::Again // Other connections must have their turn.
    }

    fn handle_message(&mut self, done: Done, _now: Now) {
        self.commands.push_back(Command::Fill(done.0));
        self.waiting.entry(done.0).and_modify(|waiting| *waiting = Some(done));
    }

    fn fill(&mut self, _requests: &mut Requests, io: &mut Io<'_>) -> Next {
        let Some((_, last, body)) = self.waiting.remove(&io.id).flatten() else {
            return Next::Wait;
        };
        respond("200 OK", &body, last, io) // Requests behind it are handled next.
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, _requests: Requests, _now: Now) {
        self.waiting.remove(&closed.id);
    }

    fn poll_command(&mut self) -> Option<Command<Done>> {
        self.commands.pop_front()
    }
}

fn respond(status: &str, body: &str, is_last: bool, io: &mut Io<'_>) -> Next {
    let length = body.len() + 1;
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}\n");
    io.out.extend_from_slice(answer.as_bytes());
    if is_last { Next::Finish } else { Next::Read }
}

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).map_or(4004, |port| port.parse().expect("a port"));
    let mut event_loop = EventLoop::new(Web::default(), Limits::default())?;
    let address = event_loop.listen(Listen::on(ListenerId(0), ([127, 0, 0, 1], port).into()))?;
    println!("listening on {address}");
    event_loop.run().map(drop)
}
