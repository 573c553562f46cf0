//! A member by itself, at one moment, for tests that say each step.

use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::engine::{EngineSettings, Keep};
use herd_mio::herd::{AnswerAfter, Herd, Observer, Settings};
use herd_mio::nats::{self, FromServer};
use herd_mio::protocol::{Dialect, Epoch, Iamat, Timestamp};

use crate::member::Nobody;
use crate::server::BUCKET;
use crate::wire::message;

pub const NOW: Now =
    Now { elapsed: Duration::from_secs(1), wall: WallTime(1_700_000_000_000_000_000) };

/// One whose answers wait for the engine, to which it has just connected, and what it has sent there.
pub fn alone(keep: Keep, max_clients: usize) -> (Herd, Vec<u8>) {
    let mut herd = unconnected(keep, max_clients, 1);
    let mut out = Vec::new();
    herd.engine_connected(NOW, &mut out, &mut Nobody);
    (herd, out)
}

/// The same, and it has not connected; its pauses are those of this seed.
pub fn unconnected(keep: Keep, max_clients: usize, seed: u64) -> Herd {
    let settings = Settings {
        name: "A".to_owned(),
        neighbours: Vec::new(),
        dialect: Dialect::Course,
        max_clients,
        max_future: Duration::from_secs(60),
        heartbeat: Duration::from_secs(1),
        refill: true,
        epoch: Epoch(1),
        seed: 1,
    };
    let mut herd = Herd::new(settings, NOW);
    herd.set_answer_after(AnswerAfter { disk: false, engine: true });
    herd.attach_engine(EngineSettings {
        bucket: BUCKET.to_owned(),
        replicas: 1,
        create: true,
        keep,
        inbox: "_INBOX.a".to_owned(),
        seed,
    });
    herd
}

/// A client tells the member where it is.
pub fn tell(herd: &mut Herd, id: &str, location: &str, timestamp: &str, now: Now) {
    let (id, location) = (id.as_bytes(), location.as_bytes());
    let timestamp = Timestamp::parse(timestamp.as_bytes()).expect("a timestamp");
    let iamat = Iamat { id, location, timestamp };
    herd.handle_iamat(&iamat, now, &mut Vec::new(), &mut Nobody).expect("it is taken");
}

/// A message of the engine for this subscription, with headers that may be empty, reaches the member, which may write more.
pub fn hear(
    herd: &mut Herd,
    (subject, sid): (&str, u64),
    (headers, payload): (&[u8], &[u8]),
    now: Now,
    out: &mut Vec<u8>,
    observer: &mut dyn Observer,
) {
    let bytes = message(subject, sid, "", headers, payload);
    let Ok(Some((FromServer::Message(message), _))) = nats::parse(&bytes, 1 << 20) else {
        panic!("a message")
    };
    herd.engine_message(&message, now, out, observer);
}
