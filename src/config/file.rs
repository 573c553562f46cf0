//! The configuration file: TOML in, a checked [`Config`] out.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::{Config, ConfigError, PEERS_ABOVE_CLIENTS, ServerConfig, default_dial};
use crate::args;
use crate::errors::plain;
use crate::limits::CLIENT_LINE_BYTES_MOST;
use crate::places::google::Shape;
use crate::protocol::is_server_name;

/// The file as it is written; every key but the servers' may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    dialect: Option<String>,
    clients: Option<usize>,
    ahead: Option<String>,
    loops: Option<usize>,
    server: Vec<Server>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    link: Link,
    #[serde(default)]
    places: Places,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    name: String,
    listen: String,
    peers: Option<String>,
    dial: Option<String>,
    #[serde(default)]
    neighbours: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    line_bytes: Option<usize>,
    begun_line: Option<String>,
    connections: Option<usize>,
    unsent_bytes: Option<usize>,
    stalled: Option<String>,
    buffer_bytes: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    heartbeat: Option<String>,
    refill: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Places {
    provider: Option<String>,
    shape: Option<String>,
    timeout: Option<String>,
    in_flight: Option<usize>,
    waiting: Option<usize>,
    answer_bytes: Option<usize>,
}

/// Reads and checks a file.
pub(super) fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), reason: plain(&error) })?;
    parse(&text, path)
}

/// Checks the text of a file; `path` is named where it can't be used.
pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let file: File = toml::from_str(text)
        .map_err(|error| ConfigError::Toml { path: path.to_owned(), reason: error.to_string() })?;
    check(&file)
}

fn check(file: &File) -> Result<Config, ConfigError> {
    let mut config = Config { servers: servers(&file.server)?, ..Config::default() };
    if let Some(name) = &file.dialect {
        config.dialect = args::dialect(name)
            .ok_or_else(|| value("dialect", name, "\"report\" or \"course\""))?;
    }
    if let Some(name) = &file.places.provider {
        let provider = args::provider(name);
        let expected = "\"google\", \"google-new\" or \"offline\"";
        config.places.chosen =
            Some(provider.ok_or_else(|| value("places.provider", name, expected))?);
    }
    if let Some(name) = &file.places.shape {
        let shape = Shape::named(name);
        config.places.shape =
            shape.ok_or_else(|| value("places.shape", name, "\"nearby\" or \"service\""))?;
    }
    duration("ahead", &file.ahead, &mut config.ahead)?;
    duration("limits.begun_line", &file.limits.begun_line, &mut config.limits.begun_line)?;
    duration("limits.stalled", &file.limits.stalled, &mut config.limits.stalled)?;
    duration("link.heartbeat", &file.link.heartbeat, &mut config.link.heartbeat)?;
    duration("places.timeout", &file.places.timeout, &mut config.places.timeout)?;
    let (limits, places) = (&mut config.limits, &mut config.places);
    for (key, given, most, setting) in [
        ("clients", file.clients, CLIENTS_MOST, &mut config.clients),
        (
            "limits.line_bytes",
            file.limits.line_bytes,
            CLIENT_LINE_BYTES_MOST,
            &mut limits.line_bytes,
        ),
        ("limits.connections", file.limits.connections, CONNECTIONS_MOST, &mut limits.connections),
        ("limits.unsent_bytes", file.limits.unsent_bytes, BYTES_MOST, &mut limits.unsent_bytes),
        ("limits.buffer_bytes", file.limits.buffer_bytes, BYTES_MOST, &mut limits.buffer_bytes),
        ("places.in_flight", file.places.in_flight, CONNECTIONS_MOST, &mut places.in_flight),
        ("places.answer_bytes", file.places.answer_bytes, BYTES_MOST, &mut places.answer_bytes),
    ] {
        count(key, given, 1, most, setting)?;
    }
    count("loops", file.loops, 1, LOOPS_MOST, &mut config.loops)?;
    count("places.waiting", file.places.waiting, 0, CONNECTIONS_MOST, &mut places.waiting)?;
    config.link.refill = file.link.refill.unwrap_or(config.link.refill);
    Ok(config)
}

fn servers(written: &[Server]) -> Result<Vec<ServerConfig>, ConfigError> {
    let mut servers = Vec::new();
    let mut names = BTreeSet::new();
    for server in written {
        if !is_server_name(server.name.as_bytes()) {
            let expected = "1 to 64 letters, digits, '_' and '-'";
            return Err(value("a server's name", &server.name, expected));
        }
        if !names.insert(&server.name) {
            return Err(ConfigError::Herd(format!("two servers are called {}", server.name)));
        }
        servers.push(addresses(server)?);
    }
    if servers.is_empty() {
        return Err(ConfigError::Herd("there is no [[server]] in the file".into()));
    }
    check_listeners(&servers)?;
    connect(written, &mut servers)?;
    Ok(servers)
}

fn addresses(server: &Server) -> Result<ServerConfig, ConfigError> {
    let listen = address(&server.name, "listen", &server.listen)?;
    let peers = match (&server.peers, listen.port()) {
        (Some(peers), _) => address(&server.name, "peers", peers)?,
        (None, 0) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        (None, port) => match port.checked_add(PEERS_ABOVE_CLIENTS) {
            Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            None => {
                return Err(ConfigError::Herd(format!(
                    "{}'s port for neighbours would be {port} plus 10000, past 65535: set `peers`",
                    server.name
                )));
            }
        },
    };
    let dial = server.dial.clone().unwrap_or_else(|| default_dial(peers));
    let is_host_and_port = dial.rsplit_once(':').is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && !bare_v6 && port.parse::<u16>().is_ok()
    });
    if !is_host_and_port {
        return Err(value(&format!("{}'s dial", server.name), &dial, "host:port"));
    }
    Ok(ServerConfig { name: server.name.clone(), listen, peers, dial, neighbours: Vec::new() })
}

fn address(server: &str, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let expected = "an IP address and a port, such as \"127.0.0.1:12138\"";
    text.parse().map_err(|_| value(&format!("{server}'s {key}"), text, expected))
}

/// No two listeners on one address. The servers of a herd may run on several machines, so one
/// that stands for all addresses of its machine is compared within a server only.
fn check_listeners(servers: &[ServerConfig]) -> Result<(), ConfigError> {
    let mut taken: Vec<(SocketAddr, &str)> = Vec::new();
    for server in servers {
        for address in [server.listen, server.peers] {
            let clash = taken.iter().find(|(other, name)| {
                let same_machine = !address.ip().is_unspecified() || *name == server.name;
                *other == address && address.port() != 0 && same_machine
            });
            if let Some((_, other)) = clash {
                let name = &server.name;
                return Err(ConfigError::Herd(match *other == name {
                    true => format!("{name} would listen twice on {address}"),
                    false => format!("{other} and {name} would both listen on {address}"),
                }));
            }
            taken.push((address, &server.name));
        }
    }
    Ok(())
}

/// Notes every edge at both of its ends.
fn connect(written: &[Server], servers: &mut [ServerConfig]) -> Result<(), ConfigError> {
    for (index, server) in written.iter().enumerate() {
        for neighbour in &server.neighbours {
            let Some(other) = servers.iter().position(|one| one.name == *neighbour) else {
                let names: Vec<_> = written.iter().map(|one| one.name.as_str()).collect();
                return Err(ConfigError::Herd(format!(
                    "{}'s neighbour {neighbour} does not exist; there are {}",
                    server.name,
                    names.join(", ")
                )));
            };
            if other == index {
                let text = format!("{} is named as its own neighbour", server.name);
                return Err(ConfigError::Herd(text));
            }
            servers[index].neighbours.push(other);
            servers[other].neighbours.push(index);
        }
    }
    for server in servers {
        server.neighbours.sort_unstable();
        server.neighbours.dedup();
    }
    Ok(())
}

fn value(key: &str, value: &str, expected: &str) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        value: format!("{value:?}"),
        expected: expected.to_owned(),
    }
}

fn count(
    key: &str,
    given: Option<usize>,
    least: usize,
    most: usize,
    setting: &mut usize,
) -> Result<(), ConfigError> {
    match given {
        None => {}
        Some(number) if (least..=most).contains(&number) => *setting = number,
        Some(number) => {
            return Err(ConfigError::Value {
                key: key.to_owned(),
                value: number.to_string(),
                expected: format!("from {least} to {most}"),
            });
        }
    }
    Ok(())
}

fn duration(key: &str, given: &Option<String>, setting: &mut Duration) -> Result<(), ConfigError> {
    if let Some(text) = given {
        let expected = "a time from 1ms to 8760h, such as \"500ms\", \"60s\", \"5m\" or \"1h\"";
        *setting = parse_duration(text).ok_or_else(|| value(key, text, expected))?;
    }
    Ok(())
}

/// A whole number and its unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(milliseconds)?);
    (!duration.is_zero() && duration <= DURATION_MOST).then_some(duration)
}

/// A year: further ahead no deadline needs to lie.
const DURATION_MOST: Duration = Duration::from_secs(8_760 * 3_600);
/// Slots of the table are numbered with 32 bits.
const CLIENTS_MOST: usize = 1_000_000_000;
/// More would share few clients each, and each has a table of all of them.
const LOOPS_MOST: usize = 64;
/// More than any machine has descriptors.
const CONNECTIONS_MOST: usize = 10_000_000;
/// A tebibyte, more than any machine of today has for buffers.
const BYTES_MOST: usize = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, duration) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("60s", Some(Duration::from_secs(60))),
            ("5m", Some(Duration::from_secs(300))),
            ("1h", Some(Duration::from_secs(3_600))),
            ("0s", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999h", None),
            ("5 m", None),
        ] {
            assert_eq!(parse_duration(text), duration, "{text}");
        }
    }
}
