//! `keep = "cache"`: what a member that holds only a part of the bucket must not be or have.

use super::super::{Config, ServerConfig};
use super::{EngineConfig, EngineKeep};

impl EngineConfig {
    /// Why members that keep a cache can't be what they are among these servers; None if they can.
    pub(super) fn cache_fault(&self, servers: &[ServerConfig]) -> Option<String> {
        let members = self.members.iter().map(|&place| &servers[place]);
        let mut bridges = members.filter(|server| !server.neighbours.is_empty());
        let first = bridges.next().filter(|_| self.keep == EngineKeep::Cache)?;
        let more = match bridges.count() {
            0 => String::new(),
            1 => ", and one more member has neighbours".to_owned(),
            more => format!(", and {more} more members have neighbours"),
        };
        Some(format!(
            "engine.keep = \"cache\" is for members without neighbours: {}{more}; a bridge must hold all clients, so take \
             these neighbours away, or write keep = \"all\"",
            has_neighbour(first, servers)
        ))
    }
}

impl Config {
    /// Why members that keep a cache can't have the state directory; None if there are none, or no directory. `is_typed`
    /// says that the command line names it.
    pub(in crate::config) fn state_of_cache(&self, is_typed: bool) -> Option<String> {
        let engine = self.engine.as_ref().filter(|engine| engine.keep == EngineKeep::Cache)?;
        let member = &self.servers[*engine.members.first()?];
        self.state.dir.as_ref()?;
        let remedy = if is_typed { "leave --state-dir out" } else { "take `dir` out of [state]" };
        Some(format!(
            "engine.keep = \"cache\" and a state directory do not go together: {} is a member, and what it has in memory is \
             not worth keeping on its disk, because the bucket has all; {remedy}, or write keep = \"all\"",
            member.name
        ))
    }

    /// Why the server of this name can't go on with this configuration, in which [`Config::reloaded`] has kept the engine:
    /// a cache can't get a neighbour. None if it can.
    pub fn neighbour_of_cache(&self, name: &str) -> Option<String> {
        let place = self.server(name)?;
        let engine = self.member_engine(place)?;
        let server = &self.servers[place];
        if engine.keep != EngineKeep::Cache || server.neighbours.is_empty() {
            return None;
        }
        Some(format!(
            "until it is restarted {name} is a member with engine.keep = \"cache\", which can have no neighbour: {}; \
             restart it with this configuration",
            has_neighbour(server, &self.servers)
        ))
    }
}

fn has_neighbour(server: &ServerConfig, servers: &[ServerConfig]) -> String {
    let neighbour = server.neighbours.first().map_or("", |&place| &servers[place].name);
    format!("{} has the neighbour {neighbour}", server.name)
}
