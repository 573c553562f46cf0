//! Clients that wait for answers, and what must hold of these: each is given once what it confirms survives the power, at
//! the latest once its server knows so; in order, and once.

use std::collections::{BTreeMap, VecDeque};

use herd_mio::herd::{HeldAnswers, Herd, Holder};

use crate::disk::{Disk, Image};
use crate::oracle::{Fact, Shadow};
use crate::world::{Server, World, Wrong};

/// The connections of one server that wait for its disk, and what was answered.
#[derive(Default)]
pub struct Clients {
    all: [Client; Clients::COUNT],
    last_holder: u64,
    /// Of each client of the herd, the newest that an answer has confirmed.
    answered: BTreeMap<Vec<u8>, Fact>,
    /// And the newest that an operator has forgotten in this run.
    forgotten: BTreeMap<Vec<u8>, Fact>,
}

/// A connection.
#[derive(Default)]
struct Client {
    holder: u64,
    held: HeldAnswers,
    owed: VecDeque<Owed>,
}

/// An answer that is not given yet.
struct Owed {
    id: Vec<u8>,
    /// What its client said, and what the server knew of that client then, if anything.
    said: Fact,
    known: Option<Fact>,
    text: Vec<u8>,
}

impl Clients {
    pub const COUNT: usize = 3;

    /// A connection closes, and another one comes.
    pub fn hang_up(&mut self, which: usize, herd: &mut Herd) {
        let client = &mut self.all[which];
        client.held.cancel(Holder(client.holder | which as u64), herd);
        client.owed.clear();
        self.last_holder += 1;
        client.holder = self.last_holder << 8;
    }

    pub fn forgotten(&mut self, id: &[u8], fact: Fact) {
        note(&mut self.forgotten, id, &fact);
    }

    /// Whether an image has this update of a client or a newer one, or nobody asks for it any more.
    fn is_kept(&self, image: &Image, shadow: &Shadow, id: &[u8], fact: &Fact) -> bool {
        image.get(id).is_some_and(|known| known >= *fact)
            || shadow.has_no_place_for(id, fact)
            || self.forgotten.get(id).is_some_and(|known| known >= fact)
    }

    /// The server has died and left this on its disk.
    pub fn crash(&mut self, left: &Image, shadow: &Shadow) -> Result<(), Wrong> {
        let mut answered = self.answered.iter();
        if let Some((id, fact)) = answered.find(|(id, it)| !self.is_kept(left, shadow, id, it)) {
            let has = left.get(id);
            return Err(format!(
                "{} {fact:?} was answered, and {has:?} is left",
                id.escape_ascii()
            ));
        }
        // What was evicted or forgotten is asked for no more, though an older disk may bring it back.
        self.answered.retain(|id, fact| left.get(id).is_some_and(|known| known >= *fact));
        self.forgotten.clear();
        for client in &mut self.all {
            self.last_holder += 1;
            *client = Client { holder: self.last_holder << 8, ..Client::default() };
        }
        Ok(())
    }

    pub fn judge(&self) -> Result<(), Wrong> {
        let owed: usize = self.all.iter().map(|client| client.owed.len()).sum();
        if owed > 0 { Err(format!("{owed} answers are never given")) } else { Ok(()) }
    }

    /// An answer is given.
    fn give(&mut self, owed: &Owed, synced: &Image, shadow: &Shadow) -> Result<(), Wrong> {
        let Owed { id, said, known, .. } = owed;
        let promised = known.as_ref().unwrap_or(said);
        if promised < said && !shadow.has_no_place_for(id, said) {
            return Err(format!("{said:?} is answered for {promised:?}"));
        }
        if !self.is_kept(synced, shadow, id, promised) {
            let has = synced.get(id);
            return Err(format!("{promised:?} is answered, and the disk has {has:?}"));
        }
        note(&mut self.answered, id, promised);
        Ok(())
    }
}

fn note(all: &mut BTreeMap<Vec<u8>, Fact>, id: &[u8], fact: &Fact) {
    let newest = all.entry(id.to_vec()).or_insert_with(|| fact.clone());
    if *newest < *fact {
        *newest = fact.clone();
    }
}

impl World<'_> {
    /// An IAMAT was handled: its answer is given now, or held.
    pub fn answer(
        &mut self,
        number: usize,
        id: &[u8],
        said: Fact,
        text: &[u8],
    ) -> Result<(), Wrong> {
        let moment = self.moment(number);
        let Server { disk: Some(disk), shadow, herd, .. } = &mut self.servers[number] else {
            return Ok(());
        };
        if !disk.is_answering() {
            return Ok(());
        }
        let known = shadow.table.get(id).map(|(fact, _)| fact.clone());
        let owed = Owed { id: id.to_vec(), said, known, text: text.to_vec() };
        let which = disk.random.below(Clients::COUNT);
        let Disk { clients, synced, .. } = disk;
        let awaited = herd.awaited(id);
        let client = &mut clients.all[which];
        if awaited.is_none() && client.held.is_empty() {
            return clients.give(&owed, synced, shadow);
        }
        client.held.push(awaited, text, moment.elapsed, Holder(client.holder | which as u64), herd);
        client.owed.push_back(owed);
        Ok(())
    }

    /// A connection is told that its answers may be due.
    pub fn answers_due(&mut self, number: usize, holder: Holder) -> Result<(), Wrong> {
        let Server { disk: Some(disk), shadow, herd, .. } = &mut self.servers[number] else {
            return Err(format!("server {number} tells {holder:?}, and has no disk"));
        };
        let Disk { clients, synced, .. } = disk;
        let which = holder.0 as usize & 0xff;
        let Some(client) = clients.all.get_mut(which).filter(|it| it.holder == holder.0 & !0xff)
        else {
            return Err(format!("server {number} tells {holder:?}, which has left"));
        };
        let (mut out, mut given) = (Vec::new(), 0);
        client.held.take_due(&mut out, holder, herd, |_| given += 1);
        let given: Vec<Owed> = client.owed.drain(..given).collect();
        if given.iter().flat_map(|owed| &owed.text).ne(&out) {
            return Err(format!("server {number} answers {} out of order", out.escape_ascii()));
        }
        given.iter().try_for_each(|owed| clients.give(owed, synced, shadow))
    }

    /// Nobody waits for what its server knows to be kept, or does not know any more.
    pub fn check_held(&self, number: usize) -> Result<(), Wrong> {
        let Server { disk: Some(disk), shadow, .. } = &self.servers[number] else {
            return Ok(());
        };
        for client in &disk.clients.all {
            let Some(Owed { id, said, known, .. }) = client.owed.front() else { continue };
            // The disk may still have what was forgotten, when its client has come back.
            if disk.clients.forgotten.contains_key(id) {
                continue;
            }
            let promised = known.as_ref().unwrap_or(said);
            // And what is on the disk may be of before the floor passed what came later.
            let told = disk.told.get(id).filter(|told| !shadow.has_no_place_for(id, told));
            let is_told = told.is_some_and(|known| known >= *promised);
            if is_told || !shadow.knows(id, promised) {
                let why = if is_told { "kept" } else { "gone" };
                return Err(format!("server {number} waits for {promised:?}, which is {why}"));
            }
        }
        Ok(())
    }
}
