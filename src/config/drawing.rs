//! What `--check` prints: the herd as it was read.

use std::fmt::Write;
use std::time::Duration;

use super::{Config, Provider, ServerConfig};
use crate::protocol::Dialect;

impl Config {
    /// The herd in words and pictures: servers, addresses, edges, settings, and what may be
    /// worth a second look.
    pub fn drawing(&self) -> String {
        let mut text = String::new();
        self.draw_servers(&mut text);
        self.draw_edges(&mut text);
        self.draw_settings(&mut text);
        for warning in self.warnings() {
            let _ = writeln!(text, "Mind: {warning}");
        }
        text
    }

    fn draw_servers(&self, text: &mut String) {
        let width = self.name_width();
        let _ = writeln!(text, "{} servers:\n", self.servers.len());
        let heads = ["clients", "neighbours", "dialled at"];
        let _ =
            writeln!(text, "  {:width$}  {:21}  {:21}  {}", "name", heads[0], heads[1], heads[2]);
        for server in &self.servers {
            let ServerConfig { name, listen, peers, dial, .. } = server;
            // Padding is for strings only, so addresses become some first.
            let (listen, peers) = (listen.to_string(), peers.to_string());
            let _ = writeln!(text, "  {name:width$}  {listen:21}  {peers:21}  {dial}");
        }
    }

    /// Half a matrix: each edge is where a row and a column meet.
    fn draw_edges(&self, text: &mut String) {
        let width = self.name_width();
        let edges: usize = self.servers.iter().map(|server| server.neighbours.len()).sum();
        let plural = if edges == 2 { "" } else { "s" };
        let _ = writeln!(text, "\n{} edge{plural}:\n", edges / 2);
        for (row, server) in self.servers.iter().enumerate() {
            let _ = write!(text, "  {:>width$} ", server.name);
            for column in 0..row {
                let joined = server.neighbours.contains(&column);
                text.push_str(if joined { " o" } else { " ." });
            }
            let names: Vec<_> =
                server.neighbours.iter().map(|&other| self.servers[other].name.as_str()).collect();
            let blank = 2 * (self.servers.len() - row);
            let _ = writeln!(text, " \\{:blank$}{}", "", names.join(", "));
        }
    }

    fn draw_settings(&self, text: &mut String) {
        let dialect = match self.dialect {
            Dialect::Report => "report (AT AT ..., miles)",
            Dialect::Course => "course (AT <server> <skew> ..., kilometres)",
        };
        let limits = &self.limits;
        let places = &self.places;
        let refill = if self.link.refill { "all that is known" } else { "only what is new" };
        let key = if places.key.is_some() { "an API key is given" } else { "no API key" };
        let at = match places.provider() {
            Provider::Offline => "the embedded gazetteer".to_owned(),
            _ => places.endpoint.to_string(),
        };
        let lines = [
            ("dialect", dialect.to_owned()),
            ("clients", format!("{} at most", self.clients)),
            ("ahead", format!("{} at most", shown(self.ahead))),
            ("loops", format!("{} in each server", self.loops)),
            (
                "heartbeat",
                format!("{}; a new link starts with {refill}", shown(self.link.heartbeat)),
            ),
            (
                "lines",
                format!(
                    "{} bytes, finished within {}",
                    limits.line_bytes,
                    shown(limits.begun_line)
                ),
            ),
            ("connections", format!("{} clients", limits.connections)),
            (
                "unsent",
                format!("{} bytes, taken within {}", limits.unsent_bytes, shown(limits.stalled)),
            ),
            ("buffers", format!("{} bytes in all", limits.buffer_bytes)),
            (
                "places",
                format!("{}; {key}; {} a query", places.provider().name(), shown(places.timeout)),
            ),
            ("", at),
            ("", format!("answers in the shape \"{}\"", places.shape.name())),
            (
                "",
                format!(
                    "{} in flight, {} waiting, {} bytes an answer",
                    places.in_flight, places.waiting, places.answer_bytes
                ),
            ),
        ];
        text.push('\n');
        for (name, value) in lines {
            let _ = writeln!(text, "  {name:12} {value}");
        }
        text.push('\n');
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for server in &self.servers {
            for address in [server.listen, server.peers] {
                if EPHEMERAL_PORTS.contains(&address.port()) {
                    warnings.push(format!(
                        "{} listens on {address}, a port that the system may give to others \
                         (32768 to 60999)",
                        server.name
                    ));
                }
            }
        }
        let parts = self.parts();
        if parts > 1 {
            warnings.push(format!("the herd is in {parts} parts, which never hear of each other"));
        }
        warnings.extend(self.places.warnings.iter().cloned());
        warnings
    }

    /// How many parts the edges leave.
    fn parts(&self) -> usize {
        let mut seen = vec![false; self.servers.len()];
        let mut parts = 0;
        for first in 0..self.servers.len() {
            let mut reached = vec![first];
            parts += usize::from(!seen[first]);
            while let Some(server) = reached.pop() {
                if !std::mem::replace(&mut seen[server], true) {
                    reached.extend(&self.servers[server].neighbours);
                }
            }
        }
        parts
    }

    fn name_width(&self) -> usize {
        self.servers.iter().map(|server| server.name.len()).max().unwrap_or(0).max(4)
    }
}

/// A duration as it is written in a configuration.
pub fn shown(duration: Duration) -> String {
    match duration.as_millis() {
        milliseconds if milliseconds % 1_000 != 0 => format!("{milliseconds} ms"),
        milliseconds if milliseconds % 60_000 != 0 => format!("{} s", milliseconds / 1_000),
        milliseconds => format!("{} min", milliseconds / 60_000),
    }
}

/// Where Linux takes the ports of outgoing connections from.
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;
