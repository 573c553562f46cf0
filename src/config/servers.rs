//! The servers of a configuration: each by itself, then all together. A configuration that is accepted here can run:
//! it has addresses to listen on and to connect to, and names that can be typed and that give each log a file of its
//! own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use toml::Spanned;

use super::document::{Document, Section};
use super::file::HINTS;
use super::{
    Config, ConfigError, PEERS_ABOVE_CLIENTS, ServerConfig, admin, default_advertise, identities,
    plain_text,
};
use crate::errors::{did_you_mean, listed};
use crate::protocol::is_server_name;
use crate::tls::Identity;

/// A server as written in the file, each value with its place.
struct Written {
    name: Spanned<String>,
    listen: Spanned<SocketAddr>,
    peer_listen: Spanned<SocketAddr>,
    advertise: Spanned<String>,
    admin_listen: Option<Spanned<SocketAddr>>,
    identity: Option<Spanned<Identity>>,
    neighbours: Vec<Spanned<String>>,
}

/// Reads the servers, and the places of their names. `at` is the place to report if there are none.
pub fn read(
    document: &Document<'_>,
    at: &Range<usize>,
    sections: Vec<Section<'_, '_>>,
    settings: &Config,
) -> Result<(Vec<ServerConfig>, Vec<Range<usize>>), ConfigError> {
    if sections.is_empty() {
        document.check()?; // A mistake elsewhere may be the reason.
        document.fault(at, "the file has no [[server]]; at least one is required".into());
    }
    if sections.len() > MAX_SERVERS {
        document.fault(at, format!("the file has more than {MAX_SERVERS} servers"));
    }
    let written: Vec<Option<Written>> =
        sections.into_iter().map(|section| one(document, section)).collect();
    document.check()?; // Later checks would only repeat it.
    let written: Vec<Written> = written.into_iter().flatten().collect();
    check_names(document, &written);
    check_listeners(document, &written);
    let identities = written.iter().map(|server| (&server.name, server.identity.as_ref()));
    identities::check(document, identities);
    let admin = written.iter().filter_map(|it| Some((&it.name, it.admin_listen.as_ref()?)));
    plain_text::check_admin(document, admin, settings);
    document.check()?;
    let servers = connect(document, &written);
    check_advertised(document, &written, &servers);
    document.check()?;
    let places = written.iter().map(|it| (it.advertise.span(), it.peer_listen.span()));
    plain_text::check_links(document, servers.iter().zip(places), settings);
    document.check()?;
    Ok((servers, written.iter().map(|server| server.name.span()).collect()))
}

/// Reads one server by itself; None if it is invalid.
fn one(document: &Document<'_>, mut section: Section<'_, '_>) -> Option<Written> {
    let name = section.text("name");
    section.call(match &name {
        Some(name) if is_server_name(name.get_ref().as_bytes()) => {
            format!("server {}", name.get_ref())
        }
        _ => "this server".to_owned(),
    });
    let listen = section.parsed("listen", socket, ADDRESS);
    let peer_listen = section.parsed("peer_listen", socket, ADDRESS);
    let advertise = section.text("advertise");
    let admin_listen = section.parsed("admin_listen", admin::listen, ADMIN_ADDRESS);
    let admin_listen = admin_listen.and_then(|admin| {
        let at = admin.span();
        admin.into_inner().map(|address| Spanned::new(at, address))
    });
    let identity = section.parsed_or("identity", identities::parse, identities::EXPECTED);
    let neighbours = section.texts("neighbours", "[\"Hands\"]");
    match &name {
        None if section.has("name") => {} // It is not text, which was reported.
        None => section.misses("name", "text, such as name = \"Goloman\""),
        Some(name) if !is_server_name(name.get_ref().as_bytes()) => {
            section.refuse("name", &name.span(), "1 to 64 letters, digits, '_' and '-'");
        }
        Some(name) if name.get_ref().starts_with('-') => {
            let expected = "a name that does not begin with a dash, as options do";
            section.refuse("name", &name.span(), expected);
        }
        Some(_) => {}
    }
    if listen.is_none() && !section.has("listen") {
        section.misses("listen", ADDRESS);
    }
    let addresses =
        [("listen", &listen), ("peer_listen", &peer_listen), ("admin_listen", &admin_listen)];
    for (key, address) in addresses {
        if let Some(address) = address
            && let Err(why) = listenable(*address.get_ref())
        {
            section.refuse(key, &address.span(), &format!("{ADDRESS}; {why}"));
        }
    }
    match &advertise {
        // A password may precede the sign.
        Some(advertise) if advertise.get_ref().contains('@') => {
            let text = "invalid `advertise`; expected host:port without a user (the value is not \
                        shown because it may contain a password)";
            document.fault(&advertise.span(), text.into());
        }
        Some(advertise) => {
            if let Err(why) = dialable(advertise.get_ref()) {
                section.refuse("advertise", &advertise.span(), &format!("host:port; {why}"));
            }
        }
        None => {}
    }
    let peer_listen = match (peer_listen, &listen) {
        (Some(peer_listen), _) => Some(peer_listen),
        (None, Some(listen)) if !section.has("peer_listen") => default_peers(document, listen),
        _ => None,
    };
    section.finish(&HINTS);
    let (name, listen, peer_listen) = (name?, listen?, peer_listen?);
    let advertise = advertise.unwrap_or_else(|| {
        Spanned::new(peer_listen.span(), default_advertise(*peer_listen.get_ref()))
    });
    Some(Written { name, listen, peer_listen, advertise, admin_listen, identity, neighbours })
}

fn socket(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

/// The default of `peer_listen`: on this machine, 10,000 ports above the clients.
fn default_peers(
    document: &Document<'_>,
    listen: &Spanned<SocketAddr>,
) -> Option<Spanned<SocketAddr>> {
    let port = listen.get_ref().port();
    let above = if port == 0 { Some(0) } else { port.checked_add(PEERS_ABOVE_CLIENTS) };
    if above.is_none() {
        let text = format!(
            "the default port for neighbours, {port} + {PEERS_ABOVE_CLIENTS}, is above 65535; set \
             `peer_listen`"
        );
        document.fault(&listen.span(), text);
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, above?));
    Some(Spanned::new(listen.span(), address))
}

/// Checks that `text` is a host and a port that one can connect to; the error says what is wrong.
pub(super) fn dialable(text: &str) -> Result<(), &'static str> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return dialable_address(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(0) => return Err("nothing can connect to port 0"),
        Ok(_) if is_number => {}
        _ => return Err("a port is a number from 1 to 65535"),
    }
    if host.contains('%') {
        return Err("the zone of an IPv6 address is a number, as in [fe80::1%2]:22138");
    }
    if host.contains([':', '[', ']']) {
        return Err("an IPv6 address is written in brackets, as in [::1]:22138");
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if !is_host_name(host) {
        return Err("a host name consists of letters, digits, '-', '_' and single dots");
    }
    // Resolvers take a name that ends in a number for an IPv4 address, and this is not one.
    let last = host.rsplit('.').next().unwrap_or(host);
    match last.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Err("this is neither a name nor an IPv4 address"),
        false => Ok(()),
    }
}

/// Whether a text has the form of a host name, without a dot at its end.
pub(super) fn is_host_name(host: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_plain);
    host.len() <= HOST_BYTES && host.split('.').all(is_label)
}

/// Checks that a machine can have this address; the error says what is wrong.
fn listenable(address: SocketAddr) -> Result<(), &'static str> {
    match address {
        _ if is_of_many(address.ip()) => {
            Err("a server cannot listen on a multicast or broadcast address")
        }
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => Err(NO_ZONE),
        _ => Ok(()),
    }
}

fn is_of_many(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn dialable_address(address: SocketAddr) -> Result<(), &'static str> {
    let ip = address.ip();
    if address.port() == 0 {
        return Err("nothing can connect to port 0");
    }
    if ip.is_unspecified() {
        return Err("nothing can connect to 0.0.0.0 or [::]");
    }
    if is_of_many(ip) {
        return Err("nothing can connect to a multicast or broadcast address");
    }
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => Err(NO_ZONE),
        _ => Ok(()),
    }
}

/// Names must differ in more than case: logs are named after servers, and some file systems ignore case.
fn check_names(document: &Document<'_>, servers: &[Written]) {
    let mut seen: HashMap<String, &Spanned<String>> = HashMap::new();
    for Written { name, .. } in servers {
        let Some(first) = seen.insert(name.get_ref().to_ascii_lowercase(), name) else {
            continue;
        };
        let (one, other) = (first.get_ref(), name.get_ref());
        let line = document.line(&first.span());
        document.fault(
            &name.span(),
            match one == other {
                true => format!("duplicate server name {other:?} (first at line {line})"),
                false => format!(
                    "the server names {one:?} (line {line}) and {other:?} differ only in case, and \
                     so would their log files; choose another name"
                ),
            },
        );
    }
}

/// No two listeners on one address. The servers of a herd may run on several machines, so an
/// unspecified address (0.0.0.0) is compared within a server only.
fn check_listeners(document: &Document<'_>, servers: &[Written]) {
    let mut taken: HashMap<SocketAddr, &Written> = HashMap::new();
    for server in servers {
        let name = server.name.get_ref();
        let listeners: Vec<(SocketAddr, Range<usize>)> =
            [Some(&server.listen), Some(&server.peer_listen), server.admin_listen.as_ref()]
                .into_iter()
                .flatten()
                .map(|address| (*address.get_ref(), address.span()))
                .collect();
        let clash = (1..listeners.len()).find_map(|later| {
            let clashes = |one: &&(SocketAddr, _)| covers_same(one.0, listeners[later].0);
            Some((listeners[..later].iter().find(clashes)?.0, later))
        });
        if let Some((address, later)) = clash {
            let whom = if later == 1 { "neighbours" } else { "administration" };
            let others = if later == 1 { "clients and" } else { "clients, neighbours and" };
            let text = format!(
                "server {name} would listen twice on {address}; use different ports for {others} {whom}"
            );
            document.fault(&listeners[later].1, text);
            continue;
        }
        for (address, at) in listeners {
            if address.port() == 0 || address.ip().is_unspecified() {
                continue;
            }
            if let Some(first) = taken.insert(canonical(address), server) {
                let (other, line) = (first.name.get_ref(), document.line(&first.name.span()));
                let text = format!(
                    "{other} and {name} would both listen on {address} ({other} at line {line}); \
                     choose another port"
                );
                document.fault(&at, text);
                break; // The other port usually clashes, too, for the same reason.
            }
        }
    }
}

/// Whether one of two canonical addresses covers the other: 0.0.0.0 covers IPv4, [::] covers everything.
pub(super) fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    one == other || covers(one, other) || covers(other, one)
}

/// Whether a server can't listen on both addresses.
fn covers_same(one: SocketAddr, other: SocketAddr) -> bool {
    let same_port = one.port() == other.port() && one.port() != 0;
    same_port && overlap(one.ip().to_canonical(), other.ip().to_canonical())
}

/// The canonical form of an address.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => address,
        _ => SocketAddr::new(address.ip().to_canonical(), address.port()),
    }
}

/// Records each link at both of its ends.
fn connect(document: &Document<'_>, written: &[Written]) -> Vec<ServerConfig> {
    let names: Vec<&str> = written.iter().map(|server| server.name.get_ref().as_str()).collect();
    let places: HashMap<&str, usize> =
        names.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    let server = |one: &Written| ServerConfig {
        name: one.name.get_ref().clone(),
        listen: *one.listen.get_ref(),
        peer_listen: *one.peer_listen.get_ref(),
        advertise: one.advertise.get_ref().clone(),
        admin_listen: one.admin_listen.as_ref().map(|admin| *admin.get_ref()),
        identity: identities::of(&one.name, one.identity.as_ref()),
        neighbours: Vec::new(),
    };
    let mut servers: Vec<ServerConfig> = written.iter().map(server).collect();
    for (place, server) in written.iter().enumerate() {
        for neighbour in &server.neighbours {
            let (name, at) = (neighbour.get_ref(), neighbour.span());
            match places.get(name.as_str()) {
                None => {
                    let near = if document.has_many() { &[][..] } else { &names[..] };
                    let meant = did_you_mean(name, near.iter().copied());
                    let own = server.name.get_ref();
                    let text = format!(
                        "no server named {name:?}, listed as a neighbour of {own}{meant} (servers: {})",
                        listed(&names)
                    );
                    document.fault(&at, text);
                }
                Some(&other) if other == place => {
                    document.fault(&at, format!("server {name} lists itself as a neighbour"));
                }
                Some(&other) => {
                    servers[place].neighbours.push(other);
                    servers[other].neighbours.push(place);
                }
            }
        }
    }
    for server in &mut servers {
        server.neighbours.sort_unstable();
        server.neighbours.dedup();
    }
    servers
}

/// Every server with a neighbour needs an address of its own to be connected to, and not one for clients.
fn check_advertised(document: &Document<'_>, written: &[Written], servers: &[ServerConfig]) {
    let clients: HashMap<SocketAddr, &str> =
        servers.iter().map(|server| (canonical(server.listen), server.name.as_str())).collect();
    let mut dialled: HashMap<String, &Written> = HashMap::new();
    for (server, own) in written.iter().zip(servers) {
        if own.neighbours.is_empty() {
            continue;
        }
        let (name, advertise, at) = (&own.name, &own.advertise, server.advertise.span());
        if let Err(why) = dialable(advertise) {
            let text = format!(
                "the neighbours of server {name} would connect to {advertise}, but {why}; set `peer_listen` or \
                 `advertise`"
            );
            document.fault(&at, text);
            continue;
        }
        let literal: Option<SocketAddr> = advertise.parse().ok();
        if let Some(other) = literal.and_then(|address| clients.get(&canonical(address))) {
            let text = format!(
                "neighbours would connect to server {name} at {advertise}, the address for the clients of {other}; \
                 set `advertise` to a port for neighbours"
            );
            document.fault(&at, text);
        }
        if let Some(first) = dialled.insert(comparable(advertise), server) {
            let (other, line) = (first.name.get_ref(), document.line(&first.name.span()));
            let text = format!(
                "neighbours would connect to both {other} (line {line}) and {name} at {advertise}; set \
                 `advertise` of each to the address where the other servers reach it"
            );
            document.fault(&at, text);
        }
    }
}

/// A canonical form, by which two ways of writing one address are equal.
fn comparable(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(address) => canonical(address).to_string(),
        Err(_) => {
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            format!("{host}:{}", port.trim_start_matches('0'))
        }
    }
}

const NO_ZONE: &str = "a link-local address needs the number of its zone, as in [fe80::1%2]:22138";
/// What is expected of an address to listen on.
const ADDRESS: &str = "an IP address and a port, such as \"127.0.0.1:12138\"";
const ADMIN_ADDRESS: &str = "\"off\", or an IP address and a port, such as \"127.0.0.1:32138\"";
/// Neighbours are numbered with 16 bits.
const MAX_SERVERS: usize = 65_535;
/// No host name is longer (RFC 1035, section 2.3.4).
const HOST_BYTES: usize = 253;
