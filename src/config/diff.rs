//! What changes from one configuration to another, in words, and when each change takes effect. Whatever
//! `--check` prints is compared, so a new setting needs no line here, unless it takes effect at a restart only.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::SocketAddr;
use std::sync::OnceLock;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::servers::overlap;
use super::{Config, ServerConfig};
use crate::places::Provider;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub effect: Effect,
    /// Such as `link.heartbeat: 5s -> 2s`. It holds no secret.
    pub text: String,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At a reload.
    Reload,
    /// When the server is started again.
    Restart,
    /// When the whole herd is started again: the setting must be equal in all servers.
    WholeHerd,
}

/// Whose changes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View<'a> {
    /// Those of every server.
    Herd,
    /// Those that concern the server of this name: common settings, its own and its neighbours'.
    Server(&'a str),
}

/// The changes from `old` to `new`, in the order in which `--check` prints the settings.
pub fn diff(old: &Config, new: &Config, view: View<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&old.common_settings(), &new.common_settings(), "", &mut changes, effect_of);
    match view {
        View::Herd => servers(old, new, &mut changes),
        View::Server(name) => match (old.find(name), new.find(name)) {
            (Some(before), Some(after)) => {
                own(before, after, "", &mut changes);
                neighbours((old, before), (new, after), &mut changes);
            }
            (Some(_), None) => changes.push(restart(format!("server {name} removed"))),
            (None, Some(_)) => changes.push(restart(format!("server {name} added"))),
            (None, None) => {}
        },
    }
    changes
}

impl Config {
    /// Every setting that `--check` prints, by its full name, and the endpoint, key and authorities of the
    /// places provider. Texts are without quotation marks; a secret is a hash that differs in each process.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings = self.common_settings();
        for server in &self.servers {
            let named = |(key, value)| (format!("server.{}.{key}", server.name), value);
            settings.extend(server.settings().into_iter().map(named));
            let names: Vec<&str> = self.neighbours_of(server).map(|it| it.name.as_str()).collect();
            settings.push((format!("server.{}.neighbours", server.name), names.join(", ")));
        }
        settings
    }

    /// The configuration that is in force once `new` is loaded while this one was in force: what needs a restart
    /// stays as it is. Of a server's view only its own listeners can wait for one.
    pub fn reloaded(&self, new: &Config, view: View<'_>) -> Config {
        let mut config = Config {
            dialect: self.dialect,
            max_clients: self.max_clients,
            max_future: self.max_future,
            loops: self.loops,
            ..new.clone()
        };
        config.link.refill = self.link.refill;
        config.state = self.state.clone();
        config.keep_engine(self);
        let is_seen = |server: &&mut ServerConfig| match view {
            View::Herd => true,
            View::Server(name) => server.name == name,
        };
        for own in config.servers.iter_mut().filter(is_seen) {
            if let Some(old) = self.find(&own.name) {
                own.keep_what_waits(old);
            }
        }
        config
    }

    /// The server `name` was started again, with the addresses of `new`.
    pub fn restarted(&mut self, new: &Config, name: &str) {
        let own = self.servers.iter_mut().find(|server| server.name == name);
        if let (Some(own), Some(new)) = (own, new.find(name)) {
            let ServerConfig { listen, peer_listen, admin_listen, .. } = *new;
            (own.listen, own.peer_listen, own.admin_listen) = (listen, peer_listen, admin_listen);
        }
    }

    /// The settings that all servers share.
    fn common_settings(&self) -> Vec<(String, String)> {
        let mut settings = parsed(&self.settings_text());
        let places = &self.places;
        let mut add = |key: &str, value: String| {
            if !settings.iter().any(|(known, _)| known == key) {
                settings.push((key.to_owned(), value));
            }
        };
        add("places.provider", places.provider().name().to_owned());
        if places.provider() != Provider::Offline {
            add("places.endpoint", places.endpoint.to_string());
        }
        add(PLACES_KEY, secret(places.key.as_ref().map(|key| key.expose())));
        add(PLACES_CA, secret(places.ca.as_ref().map(|ca| ca.certificates().collect::<Vec<_>>())));
        settings
    }

    fn find(&self, name: &str) -> Option<&ServerConfig> {
        self.servers.iter().find(|server| server.name == name)
    }

    fn neighbours_of<'a>(
        &'a self,
        server: &'a ServerConfig,
    ) -> impl Iterator<Item = &'a ServerConfig> {
        server.neighbours.iter().map(|&place| &self.servers[place])
    }
}

impl ServerConfig {
    /// What `--check` prints of it, but for its name and its neighbours.
    fn settings(&self) -> Vec<(String, String)> {
        let mut settings = parsed(&self.settings_text());
        settings.retain(|(key, _)| !["name", "advertise", "identity"].contains(&key.as_str()));
        settings.push(("advertise".to_owned(), self.advertise.clone()));
        settings.push(("identity".to_owned(), self.identity.to_string()));
        settings
    }

    /// Keeps the listeners of `old` that are in the way of these.
    fn keep_what_waits(&mut self, old: &ServerConfig) {
        for (address, before) in
            [(&mut self.listen, old.listen), (&mut self.peer_listen, old.peer_listen)]
        {
            if old.is_in_the_way(*address) {
                *address = before;
            }
        }
        if self.admin_listen.is_some_and(|address| old.is_in_the_way(address)) {
            self.admin_listen = old.admin_listen;
        }
    }

    /// Whether a listener of this server keeps another one from being opened at `address`. (One that is
    /// there already is not moved.)
    pub fn is_in_the_way(&self, address: SocketAddr) -> bool {
        self.listeners().any(|(_, old)| {
            let is_same_port = old.port() == address.port() && address.port() != 0;
            is_same_port && overlap(old.ip().to_canonical(), address.ip().to_canonical())
        })
    }
}

/// Servers that were added, removed or changed, and the links between servers.
fn servers(old: &Config, new: &Config, changes: &mut Vec<Change>) {
    for server in &old.servers {
        let name = &server.name;
        match new.find(name) {
            None => changes.push(reload(format!("server {name} removed"))),
            Some(after) => own(server, after, &format!("server.{name}."), changes),
        }
    }
    for ServerConfig { name, .. } in &new.servers {
        if old.find(name).is_none() {
            changes.push(reload(format!("server {name} added")));
        }
    }
    let (before, after) = (links(old), links(new));
    for (link, verb) in (before.difference(&after).map(|link| (link, "removed")))
        .chain(after.difference(&before).map(|link| (link, "added")))
    {
        changes.push(reload(format!("link between {} and {} {verb}", link.0, link.1)));
    }
}

/// The changes of one server by itself.
fn own(old: &ServerConfig, new: &ServerConfig, prefix: &str, changes: &mut Vec<Change>) {
    let effect = |key: &str| {
        let address = match key {
            "listen" => Some(new.listen),
            "peer_listen" => Some(new.peer_listen),
            "admin_listen" => new.admin_listen,
            _ => None,
        };
        let waits = address.is_some_and(|address| old.is_in_the_way(address));
        if waits { Effect::Restart } else { Effect::Reload }
    };
    compare(&old.settings(), &new.settings(), prefix, changes, effect);
}

/// The changes of a server's neighbours, as far as they concern it: which there are, and where they are.
fn neighbours(
    (old, before): (&Config, &ServerConfig),
    (new, after): (&Config, &ServerConfig),
    changes: &mut Vec<Change>,
) {
    for server in old.neighbours_of(before) {
        let name = &server.name;
        match new.neighbours_of(after).find(|other| other.name == *name) {
            None => changes.push(reload(format!("neighbour {name} removed"))),
            Some(other) => {
                let (one, two) = (server.identity.to_string(), other.identity.to_string());
                let advertised = (&server.advertise, &other.advertise);
                for (key, (before, after)) in
                    [("advertise", advertised), ("identity", (&one, &two))]
                {
                    if before != after {
                        let text = format!("neighbour {name}: {key}: {before} -> {after}");
                        changes.push(reload(text));
                    }
                }
            }
        }
    }
    for server in new.neighbours_of(after) {
        if !old.neighbours_of(before).any(|other| other.name == server.name) {
            changes.push(reload(format!("neighbour {} added", server.name)));
        }
    }
}

/// The links of a herd, by the names of both ends in their order.
fn links(config: &Config) -> BTreeSet<(&str, &str)> {
    let of = |server: &'_ ServerConfig| server.neighbours.clone();
    let all = config.servers.iter().enumerate();
    let ends = all.flat_map(|(place, server)| of(server).into_iter().map(move |it| (place, it)));
    let name = |place: usize| config.servers[place].name.as_str();
    let links = ends.map(|(one, other)| (name(one), name(other)));
    links.filter(|(one, other)| one < other).collect()
}

/// Compares settings by their keys.
fn compare(
    old: &[(String, String)],
    new: &[(String, String)],
    prefix: &str,
    changes: &mut Vec<Change>,
    effect: impl Fn(&str) -> Effect,
) {
    let value = |settings: &[(String, String)], wanted: &str| {
        settings.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.clone())
    };
    let gone = old.iter().filter(|(key, _)| value(new, key).is_none());
    for (key, _) in new.iter().chain(gone) {
        let (before, after) = (value(old, key), value(new, key));
        if before == after {
            continue;
        }
        let text = match key.as_str() {
            PLACES_KEY => "places key changed".to_owned(),
            PLACES_CA => "places certificates changed".to_owned(),
            _ => {
                let shown = |value: Option<String>| value.unwrap_or_else(|| "unset".to_owned());
                format!("{prefix}{key}: {} -> {}", shown(before), shown(after))
            }
        };
        changes.push(Change { effect: effect(key), text });
    }
}

/// When a change of a common setting takes effect.
fn effect_of(key: &str) -> Effect {
    if key.starts_with("state.") || key.starts_with("engine.") {
        return Effect::Restart;
    }
    let found = LATER.iter().find(|(later, _)| *later == key);
    found.map_or(Effect::Reload, |(_, effect)| *effect)
}

fn reload(text: String) -> Change {
    Change { effect: Effect::Reload, text }
}

fn restart(text: String) -> Change {
    Change { effect: Effect::Restart, text }
}

/// The keys and values of a text that this program has made, in their order.
fn parsed(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        flatten(text, table.get_ref(), "", &mut settings);
    }
    settings.sort_by_key(|(at, ..)| *at);
    settings.into_iter().map(|(_, key, value)| (key, value)).collect()
}

fn flatten(
    text: &str,
    table: &DeTable<'_>,
    prefix: &str,
    settings: &mut Vec<(usize, String, String)>,
) {
    for (key, value) in table {
        let key = format!("{prefix}{}", key.get_ref());
        match Spanned::get_ref(value) {
            DeValue::Table(table) => flatten(text, table, &format!("{key}."), settings),
            DeValue::String(text) => {
                settings.push((value.span().start, key, text.clone().into_owned()));
            }
            _ => {
                let excerpt = text.get(value.span()).unwrap_or_default().to_owned();
                settings.push((value.span().start, key, excerpt));
            }
        }
    }
}

/// A hash of a secret. Its key is random, so that it reveals nothing about the secret.
fn secret(value: Option<impl Hash>) -> String {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    match value {
        Some(value) => format!("hash {:016x}", KEY.get_or_init(RandomState::new).hash_one(value)),
        None => "none".to_owned(),
    }
}

impl Effect {
    /// As `--check --diff` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Reload => "reload",
            Effect::Restart => "restart",
            Effect::WholeHerd => "whole herd",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<11} {}", self.effect.name(), self.text)
    }
}

/// The common settings that a reload does not change.
const LATER: [(&str, Effect); 5] = [
    ("dialect", Effect::WholeHerd),
    ("max_clients", Effect::WholeHerd),
    ("max_future", Effect::WholeHerd),
    ("link.refill", Effect::WholeHerd),
    ("loops", Effect::Restart),
];
const PLACES_KEY: &str = "places.key";
const PLACES_CA: &str = "places.ca";

#[cfg(test)]
mod tests;
