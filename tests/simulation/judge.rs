//! What must hold: after every step, of every line between servers, and when all is over.

use std::collections::BTreeMap;

use herd_mio::herd::NeighbourId;
use herd_mio::protocol::Seq;

use crate::oracle::{Fact, contents};
use crate::world::{Server, World, Wrong};

/// What servers know, by client.
pub type Facts = BTreeMap<Vec<u8>, Fact>;

/// The newest of what any server knows.
pub fn union(servers: &[Server]) -> Facts {
    let mut union = Facts::new();
    for server in servers {
        for (id, fact) in table(server) {
            let known = union.entry(id).or_insert_with(|| fact.clone());
            if *known < fact {
                *known = fact;
            }
        }
    }
    union
}

fn table(server: &Server) -> Facts {
    contents(server.herd.table().iter().map(|entry| entry.update.get()))
}

/// Whether a server's table is looked at in this step: a small one after each change, a larger one now and
/// then.
pub fn is_its_turn(server: &mut Server, step: u64) -> bool {
    let table = server.herd.table();
    let has_changed = server.looked_at != table.end();
    let is_small = table.len() <= 16;
    let due = match (is_small, has_changed) {
        (true, true) => true,
        (true, false) | (false, true) => step.is_multiple_of(64),
        (false, false) => step.is_multiple_of(1_024),
    };
    if due {
        server.looked_at = table.end();
    }
    due || server.shadow.wrong.is_some()
}

/// A table holds just what it must, to the letter, of whatever way it is asked: all its entries, one by
/// its client, its feed from the beginning.
pub fn check_table(server: &Server, all_facts: &BTreeMap<Vec<u8>, Vec<Fact>>) -> Result<(), Wrong> {
    let (table, shadow) = (server.herd.table(), &server.shadow);
    if let Some(wrong) = &shadow.wrong {
        return Err(wrong.clone());
    }
    if table.len() != shadow.table.len() {
        return Err(format!("it holds {} clients, of {}", table.len(), shadow.table.len()));
    }
    let mut entries = 0;
    for entry in table.iter() {
        let update = entry.update.get();
        entries += 1;
        if !shadow.table.get(update.id).is_some_and(|(fact, _)| fact.is(&update)) {
            return Err(format!("it holds {}, which it must not", update.id.escape_ascii()));
        }
    }
    let mut alive = 0;
    let mut last = Seq(0);
    for (seq, entry) in table.changes_after(Seq(0)) {
        alive += usize::from(entry.is_some());
        if seq <= std::mem::replace(&mut last, seq) || seq > table.end() {
            return Err(format!("its feed has {seq:?} behind {last:?}"));
        }
    }
    if (entries, alive) != (table.len(), table.len()) {
        return Err(format!(
            "of {} clients it shows {entries}, and {alive} in its feed",
            table.len()
        ));
    }
    let most = 3 * table.len() + 256;
    if table.feed_len() > most {
        return Err(format!("its feed has {} records, and {most} are many", table.feed_len()));
    }
    for id in all_facts.keys() {
        let (found, right) = (table.get(id), shadow.table.get(id));
        let is_right = match (found, right) {
            (Some(entry), Some((fact, _))) => fact.is(&entry.update.get()),
            (found, right) => found.is_none() && right.is_none(),
        };
        if !is_right {
            return Err(format!("asked for {} it answers {found:?}", id.escape_ascii()));
        }
    }
    Ok(())
}

/// A link never says what its neighbour's present run has said, nor marks what is not there, nor less
/// than what it has just sent. Its settings it says first, and once; `is_first` is whether they are due.
pub fn check_sent(
    server: &Server,
    neighbour: NeighbourId,
    to: (usize, u64),
    is_first: &mut bool,
    bytes: &[u8],
) -> Result<(), Wrong> {
    let end = server.herd.table().end().0;
    let mut sends = false;
    let mut marked = None;
    for line in bytes.split(|&byte| byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let is_settings = matches!(fields[..], [b"SETTINGS", _, _, _]);
        if line.is_empty() {
            continue; // behind the last LF
        }
        if is_settings != std::mem::replace(is_first, false) {
            return Err(format!("{}, not once and first its settings", line.escape_ascii()));
        }
        match fields[..] {
            [b"UPDATELOC", id, ..] => {
                (sends, marked) = (true, None);
                let source = server.shadow.table.get(id).and_then(|(_, source)| *source);
                if source == Some(to) {
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
            [b"SETTINGS", ..] => {}
            _ => return Err(format!("{}", line.escape_ascii())),
        }
    }
    let is_all = !server.herd.link_has_pending(neighbour);
    if is_all && sends && marked.is_none_or(|seq| is_sent_after(server, Seq(seq), to)) {
        return Err(format!("MARK {marked:?} behind all up to {end}"));
    }
    Ok(())
}

/// Whether anything behind this MARK is for a neighbour's run. What that has said, and what was swept since, is not: then
/// a MARK before it says all, and none follows.
fn is_sent_after(server: &Server, mark: Seq, to: (usize, u64)) -> bool {
    let mut entries = server.herd.table().changes_after(mark).filter_map(|(_, entry)| entry);
    entries.any(|entry| {
        let source = server.shadow.table.get(entry.update.get().id).map(|(_, source)| *source);
        source != Some(Some(to))
    })
}

/// A server that receives MARK acknowledges it, and has all that the other one's feed has up to there, or what is newer
/// (looked at from the last MARK on); and no answer to HELLO asks for what is past the feed's end.
pub fn check_applied(
    from: &Server,
    to: &Server,
    marked: &mut Seq,
    line: &[u8],
    answer: &[u8],
) -> Result<(), Wrong> {
    if let Some(seq) = line.strip_prefix(b"MARK ").and_then(number).map(Seq) {
        if answer != format!("ACK {}\n", seq.0).as_bytes() {
            return Err(format!("answers {} to {seq:?}", answer.escape_ascii()));
        }
        let changes = from.herd.table().changes_after(*marked);
        // Without refill the link began at the end that the feed had then, whatever that was.
        for (_, entry) in changes.take_while(|(at, _)| *at <= seq && from.shadow.refills) {
            let Some(entry) = entry else { continue };
            let update = entry.update.get();
            let fact = Fact::of(&update);
            if !to.shadow.knows(update.id, &fact) && !to.shadow.has_no_place_for(update.id, &fact) {
                let known = to.shadow.table.get(update.id);
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
    /// nobody knows what no client sent, and all know the same.
    pub fn judge(&self, expected: &Facts) -> Result<(), Wrong> {
        let first = table(&self.servers[0]);
        // A server with no place for an update does not pass it on either.
        let has_place = |id: &Vec<u8>, fact: &Fact| {
            !self.servers.iter().any(|server| server.shadow.has_no_place_for(id, fact))
        };
        let mut everybody = match self.schedule.refill {
            true => union(&self.servers),
            false => self.fresh.iter().cloned().collect(),
        };
        everybody.retain(|id, fact| has_place(id, fact));
        for (number, server) in self.servers.iter().enumerate() {
            let known = table(server);
            let was_said = |(id, fact): &(&Vec<u8>, &Fact)| {
                self.facts.get(*id).is_some_and(|all| all.contains(fact))
            };
            if let Some(invented) = known.iter().find(|entry| !was_said(entry)) {
                return Err(format!("no client sent server {number} {invented:?}"));
            }
            let is_missing = |(id, fact): &(&Vec<u8>, &Fact)| !server.shadow.knows(id, fact);
            if let Some(lost) = everybody.iter().find(is_missing) {
                return Err(format!("server {number} ends without {lost:?}"));
            }
            if !server.shadow.is_in_sync {
                return Err(format!("server {number} was never in sync"));
            }
            if !server.herd.is_settled() {
                return Err(format!("server {number} waits for acknowledgements"));
            }
            if !self.schedule.refill || self.schedule.is_crowded {
                continue;
            }
            if known != first {
                return Err(format!("servers 0 and {number} end with different tables: {known:?}"));
            }
            // More than was known when all had healed may have been under way from one that died.
            let is_lost = |(id, fact): (&Vec<u8>, &Fact)| known.get(id).is_none_or(|it| it < fact);
            if let Some(lost) = expected.iter().find(|&entry| is_lost(entry)) {
                return Err(format!("server {number} ends with {known:?}, without {lost:?}"));
            }
        }
        Ok(())
    }
}
