//! What one update costs the loop that hands it over, and the loop that takes it.

use herd_mio::application::{
    Application, Command as LoopCommand, Dial, Due, Line, LoopId, Origin, Target,
};
use herd_mio::config::Config;
use herd_mio::protocol::Epoch;
use herd_mio::server::{CLIENTS, FIRST_LOOP, Server, ServerSetup, Session, handovers};

use crate::{NOW, Peer, batch, io, open, rounds};

/// Two loops of one server: a client of the first, and that loop's link to the second.
struct Loops {
    /// Its input comes from a client.
    first: Peer,
    second: Peer,
}

impl Loops {
    fn new() -> Loops {
        let (ours, theirs) = handovers();
        let config = Config { loops: 2, ..alone() };
        let mut first = Peer::of(one(&config, FIRST_LOOP), Origin::Accepted(CLIENTS));
        let mut second = Peer::of(one(&config, LoopId(1)), Origin::Loop(FIRST_LOOP));
        first.server.know_handover(LoopId(1), ours);
        second.server.know_handover(FIRST_LOOP, theirs);
        let mut link = dial(&mut first.server);
        second.receive(b"HELLO herd/1 A 0000000000000001\n");
        let resume = Line::Whole(b"RESUME 0 0 0000000000000002 A");
        first.server.handle_line(&mut link, resume, &mut io(1, &mut Vec::new()));
        first.link = Some(link);
        let mut loops = Loops { first, second };
        for _ in 0..2 {
            loops.hand_over(); // The settings, and that it has missed nothing.
            loops.take();
        }
        loops
    }

    /// The first loop's clients move.
    fn tell(&mut self, round: usize) {
        self.first.receive(&batch(16, round));
    }

    fn hand_over(&mut self) {
        self.first.output.clear();
        if let Some(link) = &mut self.first.link {
            self.first.server.fill(link, &mut io(1, &mut self.first.output));
        }
    }

    fn take(&mut self) {
        let lines = self.first.output.clone();
        self.second.receive(&lines);
        // What it answers: an ACK.
        let ack = self.second.output.clone();
        if let (Some(link), Some(ack)) = (&mut self.first.link, ack.strip_suffix(b"\n")) {
            let line = Line::Whole(ack);
            self.first.server.handle_line(link, line, &mut io(1, &mut Vec::new()));
        }
    }
}

fn alone() -> Config {
    let mut config = Config::default();
    config.servers.truncate(1);
    config.servers[0].name = "A".to_owned();
    config.servers[0].neighbours = Vec::new();
    config
}

fn one(config: &Config, number: LoopId) -> Server {
    let epoch = Epoch(u64::from(number.0) + 1);
    Server::new(ServerSetup { number, epoch, ..ServerSetup::plain(config, NOW) })
}

/// The link to the other loop.
fn dial(server: &mut Server) -> Session {
    let mut is_behind = |_| false;
    server.handle_timeout(&mut Due::new(NOW, &mut is_behind));
    let commands = std::iter::from_fn(|| server.poll_command()).collect::<Vec<_>>();
    let [LoopCommand::Dial(Dial { ticket, to: Target::Loop(_), .. })] = &commands[..] else {
        panic!("it dials the other loop: {commands:?}");
    };
    open(server, Origin::Dialled(*ticket), 1).0
}

/// From the feed to where the other loop finds it.
pub fn hand_over() {
    let prepare = |loops: &mut Loops, round: usize| {
        if round > 0 {
            loops.take();
        }
        loops.tell(round);
    };
    rounds(Loops::new(), prepare, |loops, ()| loops.hand_over());
}

/// From there to its table.
pub fn take() {
    let prepare = |loops: &mut Loops, round: usize| {
        loops.tell(round);
        loops.hand_over();
    };
    rounds(Loops::new(), prepare, |loops, ()| loops.take());
}
