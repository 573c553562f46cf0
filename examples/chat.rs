//! Chat: the first line is a name; all later lines go to every member. A member that does not read delays no other.
//! Try it: `cargo run --example chat 4002`, and in several terminals `nc localhost 4002`.

use std::collections::VecDeque;

use herd_mio::application::{
    Application, ClosedConnection, Command, ConnectionId, Io, Line, ListenerId, Never, Next,
    Opened, Policy,
};
use herd_mio::clock::Now;
use herd_mio::event_loop::{EventLoop, Limits, Listen};

/// One history for all members; each has a cursor into it.
#[derive(Default)]
struct Chat {
    history: VecDeque<String>,
    /// Lines that are no longer kept.
    dropped: usize,
    members: Vec<ConnectionId>,
    /// Members that have not received everything.
    behind: Vec<ConnectionId>,
}

struct Member {
    name: Option<String>,
    /// How many lines it has received or missed, counting the dropped ones.
    cursor: usize,
}

impl Application for Chat {
    type Session = Member;
    type Message = Never;

    fn handle_open(&mut self, _opened: Opened<'_>, io: &mut Io<'_>) -> Option<(Member, Policy)> {
        io.out.extend_from_slice(b"Your name?\n");
        self.members.push(io.id);
        Some((Member { name: None, cursor: self.dropped + self.history.len() }, Policy::lines(512)))
    }

    fn handle_line(&mut self, member: &mut Member, line: Line<'_>, _io: &mut Io<'_>) -> Next {
        let Line::Whole(text) = line else { return Next::Finish };
        let text = String::from_utf8_lossy(text);
        match &member.name {
            Some(name) => self.history.push_back(format!("{name}: {text}\n")),
            None => member.name = Some(text.into_owned()),
        }
        let surplus = self.history.len().saturating_sub(1_000);
        self.dropped += self.history.drain(..surplus).count();
        self.behind.clone_from(&self.members);
        Next::Read
    }

    fn fill(&mut self, member: &mut Member, io: &mut Io<'_>) -> Next {
        member.cursor = member.cursor.max(self.dropped);
        for text in self.history.range(member.cursor - self.dropped..) {
            if !io.has_room() {
                return Next::Again;
            }
            io.out.extend_from_slice(text.as_bytes());
            member.cursor += 1;
        }
        Next::Read
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, _member: Member, _now: Now) {
        self.members.retain(|member| *member != closed.id);
    }

    fn poll_command(&mut self) -> Option<Command<Never>> {
        self.behind.pop().map(Command::Fill)
    }
}

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).map_or(4002, |port| port.parse().expect("a port"));
    let mut event_loop = EventLoop::new(Chat::default(), Limits::default())?;
    let address = event_loop.listen(Listen::on(ListenerId(0), ([127, 0, 0, 1], port).into()))?;
    println!("listening on {address}");
    event_loop.run().map(drop)
}
