use std::time::Duration;

use super::*;
use crate::application::{Application, ConnectionId, Dial, Due, Opened, Origin};
use crate::clock::{Now, WallTime};
use crate::config::Config;
use crate::limits::MARK_UPDATES;
use crate::protocol::Epoch;
use crate::server::{CLIENTS, FIRST_LOOP, ServerCommand, ServerSetup, Session};

const NOW: Now = Now { elapsed: Duration::ZERO, wall: WallTime(1_700_000_000_000_000_000) };

/// Two loops of one server, linked one way, and a client of the one that sends.
struct World {
    sends: Server,
    receives: Server,
    client: Session,
    link: Session,
    peer: Session,
    /// Lines that the receiver has not read yet.
    under_way: Vec<u8>,
}

fn io(slot: u32, out: &mut Vec<u8>) -> Io<'_> {
    let id = ConnectionId { slot, generation: 1 };
    Io::new(id, ([127, 0, 0, 1], 1).into(), NOW, out, 1 << 20)
}

fn open(server: &mut Server, origin: Origin, slot: u32) -> (Session, Vec<u8>) {
    let mut out = Vec::new();
    let opened = server.handle_open(Opened::plain(origin), &mut io(slot, &mut out));
    (opened.expect("it is accepted").0, out)
}

fn lines(server: &mut Server, session: &mut Session, slot: u32, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let line = Line::Whole(line.trim_ascii_end());
        assert_eq!(server.handle_line(session, line, &mut io(slot, &mut out)), Next::Read);
    }
    out
}

impl World {
    fn new() -> World {
        let mut config = Config { loops: 2, ..Config::default() };
        config.servers.truncate(1);
        config.servers[0].neighbours = Vec::new();
        let one = |number: u16| {
            let (number, epoch) = (LoopId(number), Epoch(u64::from(number) + 1));
            Server::new(ServerSetup { number, epoch, ..ServerSetup::plain(&config, NOW) })
        };
        let (mut sends, mut receives) = (one(0), one(1));
        let (ours, theirs) = handovers();
        sends.know_handover(LoopId(1), ours);
        receives.know_handover(FIRST_LOOP, theirs);
        let (client, _) = open(&mut sends, Origin::Accepted(CLIENTS), 0);
        let mut is_behind = |_| false;
        sends.handle_timeout(&mut Due::new(NOW, &mut is_behind));
        let commands = std::iter::from_fn(|| sends.poll_command());
        let dials = commands.filter_map(|command| match command {
            ServerCommand::Dial(Dial { ticket, .. }) => Some(ticket),
            _ => None,
        });
        let ticket = dials.last().expect("it dials the other loop");
        let (mut link, hello) = open(&mut sends, Origin::Dialled(ticket), 1);
        let (mut peer, _) = open(&mut receives, Origin::Loop(FIRST_LOOP), 1);
        let resume = lines(&mut receives, &mut peer, 1, &hello);
        lines(&mut sends, &mut link, 1, &resume);
        let mut world = World { sends, receives, client, link, peer, under_way: Vec::new() };
        world.fill();
        world.receive();
        world
    }

    fn tell(&mut self, client: usize) {
        let line = format!("IAMAT client-{client} +1.0+2.0 1\n");
        lines(&mut self.sends, &mut self.client, 0, line.as_bytes());
    }

    /// Hands over as long as the sender wants to.
    fn fill(&mut self) {
        while let Next::Again = self.sends.fill(&mut self.link, &mut io(1, &mut self.under_way)) {}
    }

    fn receive(&mut self) {
        let under_way = mem::take(&mut self.under_way);
        let acks = lines(&mut self.receives, &mut self.peer, 1, &under_way);
        lines(&mut self.sends, &mut self.link, 1, &acks);
    }

    fn wants_fill(&mut self) -> bool {
        std::iter::from_fn(|| self.sends.poll_command())
            .any(|it| matches!(it, ServerCommand::Fill(_)))
    }
}

#[test]
fn updates_are_handed_over_and_no_line_carries_them() {
    let mut world = World::new();
    (0..100).for_each(|client| world.tell(client));
    world.fill();
    assert_eq!(world.under_way, b"MARK 100\n");
    world.receive();
    let (ours, theirs) = (world.sends.herd().table(), world.receives.herd().table());
    assert_eq!(theirs.len(), 100);
    for entry in ours.iter() {
        let other = theirs.get(entry.update.id()).expect("it is known to the other loop, too");
        assert_eq!(other.update.line(), entry.update.line());
    }
    assert!(
        world.sends.herd().is_settled() && !world.receives.herd().link_has_pending(NeighbourId(0))
    );
}

/// Else a loop that catches up would take an early MARK for the last one, and one line would be the work of many.
#[test]
fn each_mark_brings_its_own_batch_and_the_sizes_of_both_sides_agree() {
    let mut world = World::new();
    (0..2 * MARK_UPDATES).for_each(|client| world.tell(client));
    world.fill();
    let later = world.under_way.split_off(b"MARK 1000\n".len());
    assert_eq!(world.under_way, b"MARK 1000\n");
    world.receive();
    assert_eq!(world.receives.herd().table().len(), MARK_UPDATES);
    world.under_way = later;
    world.receive();
    assert_eq!(world.receives.herd().table().len(), 2 * MARK_UPDATES);

    let mut batch = Batch::default();
    let entries = world.sends.herd().table().iter();
    entries.for_each(|entry| batch.push(&entry.update));
    let lines = world.sends.herd().table().iter().map(|entry| entry.update.line_bytes());
    assert_eq!(batch.bytes(), lines.sum::<usize>());
}

#[test]
fn a_loop_that_stands_still_is_handed_four_batches_and_the_rest_once_it_goes_on() {
    let mut world = World::new();
    let clients = 3 * BATCHES_WAITING * MARK_UPDATES;
    (0..clients).for_each(|client| world.tell(client));
    world.fill();
    let marks = |world: &World| world.under_way.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(marks(&world), BATCHES_WAITING);
    world.wants_fill();
    world.fill();
    assert_eq!(marks(&world), BATCHES_WAITING, "nothing more while nothing is taken");
    for _ in 0..3 {
        world.receive();
        assert!(world.wants_fill() || world.sends.herd().is_settled(), "an ACK asks for the rest");
        world.fill();
    }
    world.receive();
    assert_eq!(world.receives.herd().table().len(), clients);
    assert!(world.sends.herd().is_settled());
}

#[test]
fn what_waits_for_a_former_connection_is_dropped_and_handed_over_again() {
    let mut world = World::new();
    world.tell(1);
    world.fill();
    world.under_way.clear(); // The pair of sockets breaks.
    let (mut peer, _) = open(&mut world.receives, Origin::Loop(FIRST_LOOP), 2);
    let hello = format!("HELLO herd/1 {} 0000000000000001\n", world.sends.herd().settings().name);
    lines(&mut world.receives, &mut peer, 2, hello.as_bytes());
    // The former connection's MARK takes nothing that waits.
    let mut out = Vec::new();
    let mark = Line::Whole(b"MARK 1");
    assert_eq!(
        world.receives.handle_line(&mut world.peer, mark, &mut io(1, &mut out)),
        Next::Finish
    );
    assert_eq!(world.receives.herd().table().len(), 0);
    let mark = Line::Whole(b"MARK 1");
    assert_eq!(world.receives.handle_line(&mut peer, mark, &mut io(2, &mut out)), Next::Read);
    assert_eq!(world.receives.herd().table().len(), 1);
    let (mut ours, theirs) = handovers();
    ours.open().expect("there is room").push(&crate::protocol::Update::new(
        &world.sends.herd().table().iter().next().expect("an entry").update.get(),
    ));
    ours.send();
    ours.restart();
    assert!(theirs.take().is_none());
}
