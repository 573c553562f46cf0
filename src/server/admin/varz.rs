//! `/varz`: what the server is, its limits in force, and the counters of `/metrics` as nested objects.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::reply::Reply;
use super::values::{seconds, time, time_at};
use crate::clock::{Now, WallTime};
use crate::config::{Accept, Who};
use crate::limits::ConfiguredLimits;
use crate::server::Server;
use crate::server::metrics::{EngineStateLabel, Family, SampleValue};

#[derive(Serialize)]
struct Varz<'a> {
    name: &'a str,
    version: &'a str,
    revision: Option<&'a str>,
    epoch: String,
    dialect: &'a str,
    loops: usize,
    start: Option<String>,
    now: Option<String>,
    uptime: f64,
    limits: Limits,
    neighbours: Vec<&'a str>,
    tls: Tls,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<Engine>,
    metrics: Tree,
}

/// The limits in force, of all loops together.
#[derive(Serialize)]
struct Limits {
    max_clients: usize,
    max_future: f64,
    line_bytes: usize,
    line_timeout: f64,
    line_pause: Option<f64>,
    client_connections: usize,
    client_connections_per_address: usize,
    new_ids_per_second: usize,
    new_ids_burst: usize,
    exempt: Vec<String>,
    output_bytes: usize,
    write_timeout: f64,
    buffer_bytes: usize,
    heartbeat: f64,
}

/// Who speaks TLS, and until when its files are valid.
#[derive(Serialize)]
struct Tls {
    identity: String,
    clients: ClientsTls,
    neighbours: NeighboursTls,
    admin: bool,
    /// When the first of the certificates for a use, or its revocation list, ends.
    not_after: BTreeMap<&'static str, Option<String>>,
}

#[derive(Serialize)]
struct ClientsTls {
    accept: &'static str,
    ids: &'static str,
    queries: &'static str,
}

#[derive(Serialize)]
struct NeighboursTls {
    accept: &'static str,
    dial: &'static str,
}

/// The state directory.
#[derive(Serialize)]
struct State {
    /// What an answer waits for.
    ack: &'static str,
    failing: bool,
    unwritten: u64,
    restored: u64,
}

/// The connection to the engine, of the first loop.
#[derive(Serialize)]
struct Engine {
    ack: &'static str,
    /// Which clients are in memory.
    keep: &'static str,
    state: &'static str,
    since: Option<String>,
    /// Where it is connected, and what that server calls itself.
    address: Option<String>,
    server: Option<String>,
    version: Option<String>,
    last_error: Option<String>,
    /// Why the bucket can't be used.
    refusal: Option<String>,
}

/// Metrics by name, then by the values of their labels.
enum Tree {
    Whole(u64),
    Real(f64),
    Map(Vec<(String, Tree)>),
}

impl Server {
    pub(super) fn varz(&mut self, now: Now) -> Reply {
        let families = self.families(self.is_ready(now), now);
        let settings = self.herd.settings();
        let started = self.started.elapsed;
        Reply::json(
            200,
            &Varz {
                name: &settings.name,
                version: env!("CARGO_PKG_VERSION"),
                revision: option_env!("HERD_MIO_COMMIT"),
                epoch: format!("{:016x}", settings.epoch.0),
                dialect: settings.dialect.name(),
                loops: self.all_metrics.loops.len().max(1),
                start: time_at(started, now),
                now: time(now.wall),
                uptime: seconds(now.elapsed.saturating_sub(started)),
                limits: self.limits_in_force(),
                neighbours: self.other_servers().map(|(_, known)| &known.name[..]).collect(),
                tls: self.tls_facts(),
                state: self.state_facts(),
                engine: self.engine_facts(now),
                metrics: tree(families),
            },
        )
    }

    fn tls_facts(&self) -> Tls {
        let rules = &self.tls.rules;
        let ends = self.tls.expiries.all().iter().map(|expiry| {
            let nanoseconds = i128::from(expiry.not_after) * 1_000_000_000;
            (expiry.what.label(), time(WallTime(nanoseconds)))
        });
        Tls {
            identity: rules.own.to_string(),
            clients: ClientsTls {
                accept: accept(rules.clients),
                ids: who(rules.ids),
                queries: who(rules.queries),
            },
            neighbours: NeighboursTls {
                accept: accept(rules.peers),
                dial: if rules.dials_tls { "tls" } else { "plain" },
            },
            admin: self.admin.as_ref().is_some_and(|admin| admin.takes_only_tls()),
            not_after: ends.collect(),
        }
    }

    fn state_facts(&self) -> Option<State> {
        let numbers = self.state_numbers()?;
        Some(State {
            ack: if self.herd.answer_after().disk { "disk" } else { "memory" },
            failing: numbers.is_failing,
            unwritten: self.herd.disk_uncommitted(),
            restored: numbers.restored,
        })
    }

    fn engine_facts(&self, now: Now) -> Option<Engine> {
        let (status, link) = (self.herd.engine_status()?, self.engine_link_status()?);
        let (server, version) = link.server.unzip();
        Some(Engine {
            ack: if self.herd.answer_after().engine { "engine" } else { "local" },
            keep: if self.herd.is_cache() { "cache" } else { "all" },
            state: EngineStateLabel::from(status.state).text(),
            since: time_at(link.since, now),
            address: link.peer.map(|peer| peer.to_string()),
            server: server.map(str::to_owned),
            version: version.map(|version| version.to_string()),
            last_error: link.error.map(|(reason, _)| reason.to_owned()),
            refusal: self.herd.engine_refusal().map(str::to_owned),
        })
    }

    fn limits_in_force(&self) -> Limits {
        let loops = self.all_metrics.loops.len().max(1);
        let ConfiguredLimits { line_bytes, output_bytes, buffer_bytes, .. } = self.limits;
        let exempt = self.limits.exempt.iter().map(ToString::to_string).collect();
        let settings = self.herd.settings();
        Limits {
            max_clients: settings.max_clients,
            max_future: seconds(settings.max_future),
            line_bytes,
            line_timeout: seconds(self.limits.line_timeout),
            line_pause: self.limits.line_pause.map(seconds),
            client_connections: self.limits.client_connections * loops,
            client_connections_per_address: self.limits.client_connections_per_address,
            new_ids_per_second: self.limits.new_ids_per_second,
            new_ids_burst: self.limits.new_ids_burst,
            exempt,
            output_bytes,
            write_timeout: seconds(self.limits.write_timeout),
            buffer_bytes,
            heartbeat: seconds(settings.heartbeat),
        }
    }
}

fn accept(accept: Accept) -> &'static str {
    match accept {
        Accept::Plain => "plain",
        Accept::Both => "both",
        Accept::Tls => "tls",
    }
}

fn who(who: Who) -> &'static str {
    match who {
        Who::Any => "any",
        Who::Certificate => "certificate",
    }
}

/// The families by name, each under the values of its labels.
fn tree(families: Vec<Family>) -> Tree {
    let mut all = Vec::with_capacity(families.len());
    for family in families {
        let name = family.name.strip_prefix("herd_").unwrap_or(family.name).to_owned();
        let mut node = Tree::Map(Vec::new());
        for sample in family.samples {
            let value = leaf(sample.value);
            match sample.labels.is_empty() {
                true => node = value,
                false => node.insert(sample.labels.into_iter().map(|(_, label)| label), value),
            }
        }
        all.push((name, node));
    }
    Tree::Map(all)
}

/// A histogram's buckets are cumulative, as in `/metrics`.
fn leaf(value: SampleValue) -> Tree {
    match value {
        SampleValue::Whole(value) => Tree::Whole(value),
        SampleValue::Real(value) => Tree::Real(value),
        SampleValue::Histogram { sum, count, buckets } => {
            let mut below = 0;
            let buckets = buckets.into_iter().map(|(bound, count)| {
                below += count;
                let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                (bound, Tree::Whole(below))
            });
            let buckets = Tree::Map(buckets.collect());
            Tree::Map(vec![
                ("count".to_owned(), Tree::Whole(count)),
                ("sum".to_owned(), Tree::Real(sum)),
                ("buckets".to_owned(), buckets),
            ])
        }
    }
}

impl Tree {
    /// Puts a value under these keys, one within the other.
    fn insert(&mut self, mut keys: impl Iterator<Item = String>, value: Tree) {
        let Some(key) = keys.next() else {
            *self = value;
            return;
        };
        if !matches!(self, Tree::Map(_)) {
            *self = Tree::Map(Vec::new());
        }
        let Tree::Map(entries) = self else { return };
        // Samples with equal labels follow each other.
        let place = entries.iter().rposition(|(known, _)| *known == key);
        let place = place.unwrap_or_else(|| {
            entries.push((key, Tree::Map(Vec::new())));
            entries.len() - 1
        });
        entries[place].1.insert(keys, value);
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Whole(value) => serializer.serialize_u64(*value),
            Tree::Real(value) => serializer.serialize_f64(*value),
            Tree::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}
