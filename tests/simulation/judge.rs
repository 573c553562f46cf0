//! What must hold: after every step, of every line between servers, and when all is over.

use std::collections::BTreeMap;

use herd_mio::herd::NeighbourId;
use herd_mio::protocol::Seq;

use crate::oracle::{Told, contents};
use crate::world::{Server, World, Wrong};

/// What servers know, by client.
pub type Known = BTreeMap<Vec<u8>, Told>;

/// The newest of what any server knows.
pub fn union(servers: &[Server]) -> Known {
    let mut union = Known::new();
    for server in servers {
        for (id, told) in table(server) {
            let known = union.entry(id).or_insert_with(|| told.clone());
            if *known < told {
                *known = told;
            }
        }
    }
    union
}

fn table(server: &Server) -> Known {
    contents(server.herd.table().iter().map(|entry| entry.update.get()))
}

/// Whether a server's table is looked at in this step: a small one in each, a larger one now and then.
pub fn is_its_turn(server: &Server, step: u64) -> bool {
    server.herd.table().len() <= 16 || step.is_multiple_of(256)
}

/// A table holds just what its server said that it stored. (A full one drops entries without a word.)
pub fn check_table(server: &Server) -> Result<(), Wrong> {
    let (table, shadow) = (server.herd.table(), &server.shadow);
    if let Some(wrong) = &shadow.wrong {
        return Err(wrong.clone());
    }
    if shadow.is_exact && table.len() != shadow.table.len() {
        return Err(format!("it holds {} clients, of {}", table.len(), shadow.table.len()));
    }
    for entry in table.iter() {
        let update = entry.update.get();
        if !shadow.table.get(update.id).is_some_and(|(told, _)| told.is(&update)) {
            return Err(format!("it holds {} and never said so", update.id.escape_ascii()));
        }
    }
    Ok(())
}

/// A link never says what its neighbour's present run has said, nor marks what is not there, nor less
/// than what it has just told. (A full table's shadow doesn't know all sources.)
pub fn check_sent(
    server: &Server,
    neighbour: NeighbourId,
    to: (usize, u64),
    bytes: &[u8],
) -> Result<(), Wrong> {
    let end = server.herd.table().end().0;
    let mut tells = false;
    let mut marked = None;
    for line in bytes.split(|&byte| byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        match fields[..] {
            [b"UPDATELOC", id, ..] => {
                tells = true;
                let source = server.shadow.table.get(id).and_then(|(_, source)| *source);
                if source == Some(to) && server.shadow.is_exact {
                    return Err(format!("what it said: {}", line.escape_ascii()));
                }
            }
            [b"MARK", seq] => {
                let seq = number(seq).ok_or_else(|| format!("{}", line.escape_ascii()))?;
                if seq > end {
                    return Err(format!("MARK {seq}, and its feed ends at {end}"));
                }
                marked = Some(seq);
            }
            _ => {}
        }
    }
    let is_all = !server.herd.link_lags(neighbour);
    if is_all && tells && marked != Some(end) {
        return Err(format!("MARK {marked:?} behind all up to {end}"));
    }
    Ok(())
}

/// Whoever is told MARK has all that the other one's feed has up to there, or what is newer (looked at
/// from the last MARK on); and whoever answers HELLO doesn't ask for what is past the feed's end.
pub fn check_applied(
    from: &Server,
    to: &Server,
    marked: &mut Seq,
    line: &[u8],
    answer: &[u8],
) -> Result<(), Wrong> {
    if let Some(seq) = line.strip_prefix(b"MARK ").and_then(number).map(Seq) {
        let changes = from.herd.table().changes_after(*marked);
        for (_, entry) in changes.take_while(|(at, _)| *at <= seq) {
            let Some(entry) = entry else { continue };
            let update = entry.update.get();
            let known = to.shadow.table.get(update.id).map(|(known, _)| known);
            if known.is_none_or(|known| !known.is(&update) && *known < Told::of(&update)) {
                return Err(format!("has {known:?} at {seq:?}, not {update:?}"));
            }
        }
        *marked = seq;
    }
    let fields: Vec<&[u8]> = answer.split(|&byte| byte == b' ').collect();
    if let [b"RESUME", _, seq, ..] = fields[..] {
        let (seq, end) = (number(seq), from.herd.table().end().0);
        if seq.is_none_or(|seq| seq > end) {
            return Err(format!("resumes at {seq:?} of {end}"));
        }
    }
    Ok(())
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl World<'_> {
    /// Once all faults are over and all has been said: nobody lost what anybody knew when they were over,
    /// nobody knows what nobody told, and all know the same.
    pub fn judge(&self, expected: &Known) -> Result<(), Wrong> {
        let first = table(&self.servers[0]);
        for (number, server) in self.servers.iter().enumerate() {
            let known = table(server);
            let was_told = |(id, told): &(&Vec<u8>, &Told)| {
                self.told.get(*id).is_some_and(|all| all.contains(told))
            };
            if let Some(invented) = known.iter().find(|entry| !was_told(entry)) {
                return Err(format!("nobody told server {number} {invented:?}"));
            }
            if self.schedule.is_crowded {
                if known.len() > self.schedule.bound {
                    return Err(format!("server {number} holds {} clients", known.len()));
                }
                continue;
            }
            if known != first {
                return Err(format!("servers 0 and {number} end with different tables: {known:?}"));
            }
            // More than was known when all had healed may have been under way from one that died.
            let is_lost = |(id, told): (&Vec<u8>, &Told)| known.get(id).is_none_or(|it| it < told);
            if let Some(lost) = expected.iter().find(|&entry| is_lost(entry)) {
                return Err(format!("server {number} ends with {known:?}, without {lost:?}"));
            }
            if !server.shadow.is_filled {
                return Err(format!("server {number} was never filled"));
            }
            if !server.herd.is_settled() {
                return Err(format!("server {number} waits for acknowledgements"));
            }
        }
        Ok(())
    }
}
