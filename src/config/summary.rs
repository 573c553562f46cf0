//! What `--check` prints: the effective configuration, as a configuration with the same meaning. Everything else is
//! in comments.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::file::OFF;
use super::units::written;
use super::{Config, ServerConfig, log, state, stop, tls};
use crate::addresses::Prefix;
use crate::places::Provider;
use crate::protocol::Dialect;
use crate::tls::Identity;

impl Config {
    /// The effective configuration as TOML: every setting, every server, and warnings in comments.
    pub fn summary(&self) -> String {
        let links: usize = self.servers.iter().map(|server| server.neighbours.len()).sum();
        let mut text = format!(
            "# Effective configuration: {}, {}.\n",
            count_of(self.servers.len(), "server"),
            count_of(links / 2, "link")
        );
        text += &self.settings_text();
        self.write_servers(&mut text);
        if self.servers.len() <= MAX_DRAWN_SERVERS {
            self.write_links(&mut text);
        }
        self.write_parts(&mut text, MAX_DRAWN_SERVERS);
        for (number, warning) in self.warnings().iter().enumerate() {
            let apart = if number == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{apart}# warning: {warning}");
        }
        text
    }

    /// All settings but those of the servers.
    pub(super) fn settings_text(&self) -> String {
        let mut text = String::new();
        self.write_settings(&mut text);
        self.write_places(&mut text);
        log::write(&self.log, &mut text);
        tls::write(&self.tls, &mut text);
        self.write_admin(&mut text);
        stop::write(&self.stop, &mut text);
        state::write(&self.state, &mut text);
        self.write_engine(&mut text);
        let watch = self.reload.watch.map_or_else(|| OFF.to_owned(), written);
        let _ = writeln!(text, "\nreload.watch = {watch:?}");
        text
    }

    fn write_settings(&self, text: &mut String) {
        let (limits, link) = (&self.limits, &self.link);
        let (dialect, form) = match self.dialect {
            Dialect::Report => ("report", "AT AT ..., miles"),
            Dialect::Course => ("course", "AT <server> <skew> ..., kilometres"),
        };
        let refill = if link.refill { "all that is known" } else { "only what is new" };
        let exempt: Vec<String> = limits.exempt.iter().map(Prefix::to_string).collect();
        let exempt = format!("{exempt:?}");
        let pause = limits.line_pause.map_or_else(|| OFF.to_owned(), written);
        let time = |time: Duration| format!("{:?}", written(time));
        let sections: [&[(&str, String, String)]; 3] = [
            &[
                ("dialect", format!("{dialect:?}"), form.to_owned()),
                ("max_clients", self.max_clients.to_string(), String::new()),
                ("max_future", time(self.max_future), String::new()),
                ("loops", self.loops.to_string(), "in each server".to_owned()),
            ],
            &[
                ("limits.line_bytes", limits.line_bytes.to_string(), String::new()),
                ("limits.line_timeout", time(limits.line_timeout), String::new()),
                ("limits.line_pause", format!("{pause:?}"), String::new()),
                ("limits.client_connections", limits.client_connections.to_string(), String::new()),
                (
                    "limits.client_connections_per_address",
                    limits.client_connections_per_address.to_string(),
                    off_if_zero(limits.client_connections_per_address),
                ),
                (
                    "limits.new_ids_per_second",
                    limits.new_ids_per_second.to_string(),
                    off_if_zero(limits.new_ids_per_second),
                ),
                ("limits.new_ids_burst", limits.new_ids_burst.to_string(), String::new()),
                ("limits.exempt", exempt, String::new()),
                ("limits.handshake_timeout", time(limits.handshake_timeout), String::new()),
                ("limits.handshakes", limits.handshakes.to_string(), String::new()),
                (
                    "limits.handshakes_per_second",
                    limits.handshakes_per_second.to_string(),
                    off_if_zero(limits.handshakes_per_second),
                ),
                ("limits.handshakes_burst", limits.handshakes_burst.to_string(), String::new()),
                bytes("limits.output_bytes", limits.output_bytes),
                ("limits.write_timeout", time(limits.write_timeout), String::new()),
                bytes("limits.buffer_bytes", limits.buffer_bytes),
            ],
            &[
                ("link.heartbeat", time(link.heartbeat), String::new()),
                (
                    "link.refill",
                    link.refill.to_string(),
                    format!("a new link starts with {refill}"),
                ),
            ],
        ];
        for section in sections {
            text.push('\n');
            write_lines(text, section);
        }
    }

    fn write_places(&self, text: &mut String) {
        let places = &self.places;
        let provider = places.provider();
        text.push('\n');
        let key = if places.key.is_some() { "an API key is given" } else { "no API key is given" };
        let name = format!("{:?}", provider.name());
        match places.provider_override {
            Some(_) => write_lines(text, &[("places.provider", name, key.to_owned())]),
            // A comment, because as a setting it would be a choice, and none was made.
            None => {
                let _ = writeln!(text, "# places.provider = {name}, because {key}");
            }
        }
        if provider != Provider::Offline {
            let _ = writeln!(text, "# asked at {}", places.endpoint);
        }
        write_lines(
            text,
            &[
                ("places.shape", format!("{:?}", places.shape.name()), String::new()),
                ("places.timeout", format!("{:?}", written(places.timeout)), String::new()),
                ("places.max_in_flight", places.max_in_flight.to_string(), String::new()),
                ("places.max_queued", places.max_queued.to_string(), String::new()),
                bytes("places.response_bytes", places.response_bytes),
            ],
        );
    }

    /// Prints each link at the server that comes first.
    fn write_servers(&self, text: &mut String) {
        for (place, server) in self.servers.iter().enumerate() {
            let _ = write!(text, "\n[[server]]\n{}", server.settings_text());
            let later = server.neighbours.iter().filter(|other| **other > place);
            let names: Vec<&str> = later.map(|&other| self.servers[other].name.as_str()).collect();
            if !names.is_empty() {
                let _ = writeln!(text, "neighbours = {names:?}");
            }
        }
    }

    /// Prints half a matrix: each link is an `o` where its row and its column meet.
    fn write_links(&self, text: &mut String) {
        let longest = self.servers.iter().map(|server| server.name.len()).max();
        let width = longest.unwrap_or_default();
        text.push_str("\n# Links:\n");
        for (row, server) in self.servers.iter().enumerate() {
            let _ = write!(text, "#   {:>width$} ", server.name);
            for column in 0..row {
                let joined = server.neighbours.contains(&column);
                text.push_str(if joined { " o" } else { " ." });
            }
            let names: Vec<_> =
                server.neighbours.iter().map(|&other| self.servers[other].name.as_str()).collect();
            let blank = 2 * (self.servers.len() - row);
            let line = format!(" \\{:blank$}{}", "", names.join(", "));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let ephemeral = Ephemeral::read();
        for server in &self.servers {
            for (_, address) in server.listeners() {
                if ephemeral.has(address.port()) {
                    warnings.push(format!(
                        "{} listens on {address}, a port that the system uses for outgoing \
                         connections ({} to {}), so it may be in use; choose another, or reserve it \
                         (net.ipv4.ip_local_reserved_ports)",
                        server.name,
                        ephemeral.range.start(),
                        ephemeral.range.end(),
                    ));
                }
            }
        }
        let left_out = warnings.len().saturating_sub(MAX_PORT_WARNINGS);
        if left_out > 0 {
            warnings.truncate(MAX_PORT_WARNINGS);
            warnings.push(format!("the same is true of {left_out} more ports"));
        }
        let plain: Vec<String> =
            self.servers.iter().filter_map(|server| self.plain_clients(server)).collect();
        warnings.extend(plain.iter().take(MAX_PORT_WARNINGS).cloned());
        if plain.len() > MAX_PORT_WARNINGS {
            let left_out = plain.len() - MAX_PORT_WARNINGS;
            warnings.push(format!("the same is true of the clients of {left_out} more servers"));
        }
        let groups = self.groups();
        if groups > 1 {
            let engine = if self.engine.is_some() { ", and no engine" } else { "" };
            warnings.push(format!(
                "the servers form {groups} groups with no link{engine} between them"
            ));
        }
        warnings.extend(self.engine_warnings(MAX_PORT_WARNINGS));
        warnings.extend(self.places.warnings.iter().cloned());
        warnings
    }

    /// How many groups of servers the links and the engine leave.
    fn groups(&self) -> usize {
        let mut seen = vec![false; self.servers.len()];
        let mut groups = 0;
        let members = self.engine.as_ref().map(|engine| &engine.members[..]).unwrap_or_default();
        let mut has_reached_members = false;
        for first in 0..self.servers.len() {
            let mut reached = vec![first];
            groups += usize::from(!seen[first]);
            while let Some(server) = reached.pop() {
                if !std::mem::replace(&mut seen[server], true) {
                    reached.extend(&self.servers[server].neighbours);
                    let is_member = members.binary_search(&server).is_ok();
                    if is_member && !std::mem::replace(&mut has_reached_members, true) {
                        reached.extend(members);
                    }
                }
            }
        }
        groups
    }
}

impl ServerConfig {
    /// Its settings, but for its neighbours.
    pub(super) fn settings_text(&self) -> String {
        let ServerConfig { name, listen, peer_listen, advertise, admin_listen, identity, .. } =
            self;
        let mut text = format!("name = {name:?}\nlisten = \"{listen}\"\n");
        let _ = writeln!(text, "peer_listen = \"{peer_listen}\"");
        if *advertise != peer_listen.to_string() {
            let _ = writeln!(text, "advertise = {advertise:?}");
        }
        if let Some(address) = admin_listen {
            let _ = writeln!(text, "admin_listen = \"{address}\"");
        }
        if *identity != Identity::of_server(name) {
            let _ = writeln!(text, "identity = {:?}", identity.to_string());
        }
        text
    }
}

/// Lines of key, value and comment.
fn write_lines(text: &mut String, lines: &[(&str, String, String)]) {
    for (key, value, comment) in lines {
        let setting = format!("{key} = {value}");
        let _ = match comment.as_str() {
            "" => writeln!(text, "{setting}"),
            comment => writeln!(text, "{setting:34} # {comment}"),
        };
    }
}

fn off_if_zero(number: usize) -> String {
    if number == 0 { OFF.to_owned() } else { String::new() }
}

/// A number of bytes, with its unit if it is a whole number of them.
fn bytes(key: &str, number: usize) -> (&str, String, String) {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(size, _)| number >= *size && number.is_multiple_of(*size));
    let comment = unit.map_or_else(String::new, |(size, name)| format!("{} {name}", number / size));
    (key, number.to_string(), comment)
}

fn count_of(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A duration in words.
pub fn format_duration(duration: Duration) -> String {
    match duration.as_millis() {
        milliseconds if milliseconds % 1_000 != 0 => format!("{milliseconds} ms"),
        milliseconds if milliseconds % 60_000 != 0 => format!("{} s", milliseconds / 1_000),
        milliseconds => format!("{} min", milliseconds / 60_000),
    }
}

/// The ports that the system uses for outgoing connections.
struct Ephemeral {
    range: RangeInclusive<u16>,
    /// The ports that it reserves from these.
    reserved: Vec<RangeInclusive<u16>>,
}

impl Ephemeral {
    /// Reads the system's settings, if it has any.
    fn read() -> Ephemeral {
        let setting = |name: &str| std::fs::read_to_string(format!("{PORT_SETTINGS}/{name}"));
        Ephemeral::parse(
            &setting("ip_local_port_range").unwrap_or_default(),
            &setting("ip_local_reserved_ports").unwrap_or_default(),
        )
    }

    fn parse(range: &str, reserved: &str) -> Ephemeral {
        let mut ends = range.split_whitespace().filter_map(|port| port.parse().ok());
        let range = match (ends.next(), ends.next()) {
            (Some(first), Some(last)) => first..=last,
            _ => EPHEMERAL_PORTS,
        };
        let ranges = reserved.trim().split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        Ephemeral { range, reserved: ranges.collect() }
    }

    fn has(&self, port: u16) -> bool {
        self.range.contains(&port) && !self.reserved.iter().any(|range| range.contains(&port))
    }
}

/// The matrix of links grows with the square of the number of servers; it is left out for larger herds.
const MAX_DRAWN_SERVERS: usize = 16;
/// Beyond these only the number of ports is printed.
const MAX_PORT_WARNINGS: usize = 20;
/// Where Linux publishes which ports it uses for outgoing connections (ip-sysctl).
const PORT_SETTINGS: &str = "/proc/sys/net/ipv4";
/// The ports that Linux uses for outgoing connections by default.
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_outgoing_connections_are_those_of_the_system_but_for_reserved_ones() {
        let linux = Ephemeral::parse("32768\t60999\n", "\n");
        assert!(linux.has(32_768) && linux.has(60_999) && !linux.has(22_138) && !linux.has(61_000));
        let narrow = Ephemeral::parse("20000 20100", "20005,20010-20020");
        assert!(narrow.has(20_000) && !narrow.has(20_005) && !narrow.has(20_015));
        assert!(!narrow.has(40_000));
        for unknown in ["", "many", "1"] {
            assert!(Ephemeral::parse(unknown, "x,1-y").has(40_000), "{unknown}");
        }
    }
}
