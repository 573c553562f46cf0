//! What goes wrong.

use crate::member::name_of;
use crate::stream::Stored;
use crate::world::{Event, World};

/// One thing that goes wrong, or that an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No leader for so many milliseconds.
    Election(u64),
    /// For so long a leader that was replaced takes publishes without looking.
    StaleLeader(u64),
    /// The stream is deleted.
    Delete,
    /// The stream is kept aside.
    Backup,
    /// The stream is put back as it was when it was kept aside, with the time at which it was made, or a new one.
    Restore { same_time: bool },
    /// The engine loses the last few messages, as one that has not synced its disk.
    Lose(usize),
    /// A consumer vanishes without a word.
    LoseConsumer(usize),
    /// The node of a consumer dies: it stays in lists, and says nothing.
    KillConsumer(usize),
    /// The connection of a member ends.
    Close(usize),
    /// Nothing passes between a member and the engine for so long.
    Cut(usize, u64),
    /// A member is killed, and started after so long.
    Crash(usize, u64),
    /// An operator puts an old update of a client.
    PutOld(usize),
    /// An operator puts what is no update.
    PutGarbage(usize),
    /// An operator deletes a client.
    DeleteClient(usize),
}

/// What goes wrong all the time: of a hundred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    pub lost_acks: usize,
    /// The most milliseconds that an answer takes.
    pub slow_acks: usize,
    /// Publishes that take effect up to six seconds later.
    pub late: usize,
    /// Requests that are not answered.
    pub deaf: usize,
    /// Messages of consumers that get lost.
    pub gaps: usize,
}

impl World {
    pub fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Election(length) => self.leaderless_until = self.now + length,
            Fault::StaleLeader(length) => self.stale_until = self.now + length,
            Fault::Delete => {
                self.stream = None;
                self.consumers.clear();
                self.replaced_at = self.now;
                if !self.schedule.create {
                    let at = self.now + self.random.between(500, 20_000) as u64;
                    self.at(at, Event::OperatorMakesStream);
                }
                self.forget_what_is_lost();
            }
            Fault::Backup => self.backup = self.stream.clone(),
            Fault::Restore { same_time } => {
                if let Some(backup) = &self.backup
                    && self.stream.as_ref().is_none_or(|it| it.last_seq > backup.last_seq + 60)
                {
                    let mut backup = backup.clone();
                    if !same_time {
                        self.made += 1;
                        backup.created = self.made;
                    }
                    self.stream = Some(backup);
                    self.consumers.clear();
                    self.replaced_at = self.now;
                    self.forget_what_is_lost();
                }
            }
            Fault::Lose(count) => {
                if let Some(stream) = &mut self.stream {
                    stream.lose(count);
                    self.consumers.clear();
                    self.replaced_at = self.now;
                    self.forget_what_is_lost();
                }
            }
            Fault::LoseConsumer(at) => {
                if at < self.consumers.len() {
                    self.consumers.remove(at);
                }
            }
            Fault::KillConsumer(at) => {
                if let Some(consumer) = self.consumers.get_mut(at) {
                    consumer.is_dead = true;
                }
            }
            Fault::Close(member) => self.close(member),
            Fault::Cut(member, length) => self.cut(member, length),
            Fault::Crash(member, length) => {
                self.members[member].crash();
                self.at(self.now + length, Event::Restart { member });
                self.forget_what_is_lost();
            }
            Fault::PutOld(client) => self.put(client, |id| {
                format!("UPDATELOC {id} +00+000 1.000000000 S9 +5.000000000").into_bytes()
            }),
            Fault::PutGarbage(client) => self.put(client, |_| b"where is it?".to_vec()),
            Fault::DeleteClient(client) => {
                self.laws.deleted.insert(name_of(client).into_bytes());
                self.store(client, b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n".to_vec(), Vec::new());
            }
        }
    }

    /// The connection of the member is noticed to be dead after some seconds.
    fn cut(&mut self, member: usize, length: u64) {
        self.members[member].cut_until = self.now + length;
        if let Some(open) = &self.members[member].connection
            && length > 4_000
        {
            let connection = open.number;
            self.at(self.now + 4_000, Event::Close { member, connection });
        }
    }

    fn put(&mut self, client: usize, value: impl Fn(&str) -> Vec<u8>) {
        let value = value(&name_of(client));
        self.store(client, Vec::new(), value);
    }

    fn store(&mut self, client: usize, headers: Vec<u8>, payload: Vec<u8>) {
        let time = self.wall();
        let id = name_of(client).replace('.', "=2E");
        let subject = match id.strip_prefix('_') {
            Some(rest) => format!("$KV.b.=5F{rest}"),
            None => format!("$KV.b.{id}"),
        };
        self.went_back_at = self.now;
        if let Some(stream) = &mut self.stream {
            stream.publish(Stored { subject, headers, payload, time }, None, false);
            self.forget_what_is_lost();
        }
        self.pump();
    }
}
