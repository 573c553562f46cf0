//! How servers and connections end unintentionally.

use std::cmp::Reverse;

use herd_mio::protocol::Seq;

use crate::network::{BACK, OUT};
use crate::oracle::Shadow;
use crate::watch::Watch;
use crate::world::{Due, World, Wrong};

impl World<'_> {
    /// A server loses all that it knows and has not on a disk.
    pub fn crash(&mut self, number: usize, until: u64) -> Result<(), Wrong> {
        if self.servers[number].is_down {
            return Ok(());
        }
        self.disk_crashes(number)?;
        self.drop_ends(number);
        let run = self.servers[number].run + 1;
        let herd = self.herd(number, run, &self.servers[number].neighbours);
        let shadow = self.shadow();
        let server = &mut self.servers[number];
        server.herd = herd;
        let Shadow { sent, links_lost, .. } = server.shadow;
        server.shadow = Shadow { sent, links_lost, ..shadow };
        server.watch.fill(Watch::default());
        (server.was_in_sync, server.looked_at) = (false, Seq(0));
        (server.run, server.is_down) = (run, true);
        (server.wake, server.paused_until) = (u64::MAX, 0);
        self.disk_restarts(number)?;
        self.plan(until.max(self.now), Due::Back { server: number });
        Ok(())
    }

    /// A server has died: its ends of all wires are gone.
    pub fn drop_ends(&mut self, number: usize) {
        let all: Vec<u64> = self.network.wires.keys().copied().collect();
        for id in all {
            let Some(wire) = self.network.wires.get_mut(&id) else { continue };
            if wire.from != number && wire.to != number {
                continue;
            }
            let end = if wire.from == number { OUT } else { BACK };
            wire.is_open[end] = false;
            // The kernel of a process that dies sends what it was given and closes, or it resets; a host
            // that dies says nothing.
            let (sent, at) =
                (wire.arrival[end].max(self.now), self.now + self.random.below(50) as u64);
            match self.random.below(3) {
                0 => self.plan(sent + 1, Due::Closed { wire: id, way: end }),
                1 => self.plan(at, Due::Closed { wire: id, way: end }),
                _ => {}
            }
        }
    }

    /// All wires between two servers break.
    pub fn tear_between(&mut self, one: usize, other: usize) {
        for ends in [(one, other), (other, one)] {
            for id in self.network.by_ends.get(&ends).cloned().unwrap_or_default() {
                self.tear(id);
            }
        }
    }

    /// A wire breaks: of what is on it a part may still arrive, and each end learns of it, sooner or
    /// later.
    fn tear(&mut self, id: u64) {
        let Some(wire) = self.network.wires.get_mut(&id) else { return };
        wire.is_cut = true;
        let arrival = wire.arrival;
        let mut all = std::mem::take(&mut self.due).into_vec();
        all.sort_unstable_by_key(|Reverse((_, number, _))| *number); // In the order of sending.
        let mut whole = [self.random.below(8), self.random.below(8)];
        all.retain_mut(|Reverse((_, _, due))| match due {
            Due::Arrive { wire, way, bytes } if *wire == id => match &mut whole[*way] {
                0 => false,
                1 => {
                    bytes.truncate(self.random.below(bytes.len() + 1));
                    whole[*way] = 0;
                    true
                }
                more => {
                    *more -= 1;
                    true
                }
            },
            _ => true,
        });
        self.due = all.into();
        for way in [OUT, BACK] {
            let at = arrival[way].max(self.now) + self.random.below(200) as u64;
            self.plan(at, Due::Closed { wire: id, way });
        }
    }
}
