//! Callers on the neighbours' port (section 4): strangers until they say HELLO.

use std::cell::Cell;
use std::net::SocketAddr;

use super::records::{self, Records};
use super::{Command, ConnectionId, Server, Verdict};
use crate::application::Line;
use crate::clock::Now;
use crate::herd::{NeighbourId, Outcome, Peer};
use crate::logging::Traffic;
use crate::logging::rate_limit::Kind;
use crate::protocol::write_refusal;

impl Server {
    pub(super) fn caller_line(
        &mut self,
        id: ConnectionId,
        caller: &mut Peer,
        peer: SocketAddr,
        line: Line<'_>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let before = out.len();
        let line = match line {
            Line::Whole(line) => line,
            Line::Unfinished(_) => return Verdict::Close,
            Line::TooLong(beginning) => {
                let reason = "the line is too long; the connection is closed";
                records::refused(Kind::PeerLineRefused, peer, reason);
                write_refusal(beginning, out);
                Traffic::Link.sent(peer, &out[before..]);
                return Verdict::Close;
            }
        };
        self.record_line(caller, peer, line);
        let neighbours = &self.neighbours;
        let address = peer.ip().to_canonical();
        let unknown_from_here = Cell::new(None);
        let admits = |neighbour: NeighbourId| {
            let is_known = neighbours[usize::from(neighbour.0)].addresses.contains(&address);
            unknown_from_here.set(Some(neighbour).filter(|_| !is_known));
            is_known
        };
        let was_introduced = matches!(caller, Peer::Identified { .. });
        let observer = &mut Records(&self.title, neighbours);
        let verdict = self.herd.handle_peer_line(caller, line, &admits, now, out, observer);
        if !was_introduced && let Peer::Identified { neighbour, .. } = *caller {
            self.replace_caller(neighbour, id);
            self.commands.push_back(Command::Called { neighbour, from: address });
        }
        if let Some(neighbour) = unknown_from_here.get() {
            // Its name may stand for another address by now.
            let address = self.neighbours[usize::from(neighbour.0)].dial.clone();
            self.commands.push_back(Command::LookUp { neighbour, address });
        }
        match caller {
            Peer::Unidentified => {
                Traffic::Link.sent(peer, &out[before..]);
                self.check_own_name(peer, now);
            }
            Peer::Expected(neighbour) | Peer::Identified { neighbour, .. } => {
                records::sent_to_neighbour(self.known_as(*neighbour), &out[before..]);
                // Answered are HELLO and MARK; of the rest only the settings say what may be wrong.
                if out.len() > before || line.starts_with(b"SETTINGS") {
                    self.check_neighbour(*neighbour, peer, now);
                }
            }
        }
        match verdict {
            Outcome::Continue => Verdict::Next,
            Outcome::Close => Verdict::Close,
        }
    }

    /// What a neighbour tells while it catches up is one record at its begin and one at its end.
    fn record_line(&self, caller: &Peer, peer: SocketAddr, line: &[u8]) {
        match caller {
            Peer::Unidentified => Traffic::Link.received(peer, line),
            Peer::Identified { neighbour, .. }
                if self.herd.is_catching_up(*neighbour) && !line.starts_with(b"SETTINGS") => {}
            Peer::Expected(neighbour) | Peer::Identified { neighbour, .. } => {
                records::received_from_neighbour(self.known_as(*neighbour), line);
            }
        }
    }

    /// A neighbour has one connection here, its latest.
    fn replace_caller(&mut self, neighbour: NeighbourId, id: ConnectionId) {
        let caller = &mut self.neighbours[usize::from(neighbour.0)].caller;
        if let Some(former) = caller.replace(id) {
            self.commands.push_back(Command::Close(former));
        }
    }

    pub(super) fn send_away(&mut self, neighbour: NeighbourId) -> Option<Command> {
        let caller = &mut self.neighbours[usize::from(neighbour.0)].caller;
        caller.take().map(Command::Close)
    }

    pub(super) fn caller_closed(&mut self, id: ConnectionId, caller: Peer, peer: SocketAddr) {
        self.herd.peer_closed(caller);
        let Peer::Identified { neighbour, .. } = caller else {
            return records::closed("Stranger", peer);
        };
        records::closed(self.known_as(neighbour), peer);
        let current = &mut self.neighbours[usize::from(neighbour.0)].caller;
        if *current == Some(id) {
            *current = None;
        }
    }
}
