//! The herd as the configuration describes it: all servers and edges. Of those that are not its own a server knows
//! nothing more.

use std::net::IpAddr;

use serde::Serialize;

use crate::config::{Config, ServerConfig};

/// All servers of the herd and the edges between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::server::admin) struct HerdMap {
    /// The place of this server.
    own: usize,
    servers: Vec<HerdServer>,
    /// Each edge once, by the places of its ends.
    edges: Vec<(usize, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct HerdServer {
    name: String,
    /// The address of its page, if it has one.
    page: Option<String>,
}

impl HerdMap {
    pub(in crate::server::admin) fn new(config: &Config, own: usize) -> HerdMap {
        let servers = config.servers.iter().map(|server| HerdServer {
            name: server.name.clone(),
            page: page(config, &config.servers[own], server),
        });
        let edges = config.servers.iter().enumerate().flat_map(|(place, server)| {
            let further = server.neighbours.iter().filter(move |other| **other > place);
            further.map(move |other| (place, *other))
        });
        HerdMap { own, servers: servers.collect(), edges: edges.collect() }
    }
}

/// Where the page of a server is for an operator who looks at that of `own`; None if that is not known.
fn page(config: &Config, own: &ServerConfig, server: &ServerConfig) -> Option<String> {
    let address = url(config, server)?;
    if server.name == own.name {
        return Some(address);
    }
    // Loopback leads to the host of the operator, as it did for our own page.
    let is_loopback =
        server.admin_listen.is_some_and(|address| address.ip().to_canonical().is_loopback());
    let is_elsewhere = is_loopback && !is_same_host(server.host(), own.host());
    let is_taken = url(config, own).as_ref() == Some(&address);
    (!is_elsewhere && !is_taken).then_some(address)
}

fn url(config: &Config, server: &ServerConfig) -> Option<String> {
    let address = server.admin_listen.filter(|address| address.port() != 0)?;
    let scheme = if config.admin.tls { "https" } else { "http" };
    match address.ip().is_unspecified() {
        false => Some(format!("{scheme}://{address}/")),
        true => Some(format!("{scheme}://{}:{}/", server.host(), address.port())),
    }
}

fn is_same_host(one: &str, other: &str) -> bool {
    let is_loopback = |host: &str| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.to_canonical().is_loopback())
    };
    one.eq_ignore_ascii_case(other) || is_loopback(one) && is_loopback(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address of the page of each server, as A links it, where `settings` are those of A and of B.
    fn pages(of_a: &str, of_b: &str) -> [Option<String>; 2] {
        let top = "[security]\nallow_plaintext = [\"admin\", \"neighbours\"]\n";
        let text = format!(
            "{top}[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:1\"\n{of_a}\n\
             [[server]]\nname = \"B\"\nlisten = \"127.0.0.1:2\"\n{of_b}\n"
        );
        let config = Config::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let [a, b] = &HerdMap::new(&config, 0).servers[..] else { panic!("two servers: {text}") };
        [a.page.clone(), b.page.clone()]
    }

    #[test]
    fn a_server_is_linked_where_its_page_is_and_never_to_another_one() {
        let own = "peer_listen = \"127.0.0.1:11\"\nadmin_listen = \"127.0.0.1:3\"";
        let page_of_a = Some("http://127.0.0.1:3/".to_owned());
        for (of_b, expected) in [
            ("peer_listen = \"127.0.0.1:12\"", None),
            (
                "peer_listen = \"127.0.0.1:12\"\nadmin_listen = \"127.0.0.1:4\"",
                Some("http://127.0.0.1:4/"),
            ),
            ("peer_listen = \"127.0.0.1:12\"\nadmin_listen = \"127.0.0.1:0\"", None),
            // On the loopback of another host.
            (
                "peer_listen = \"0.0.0.0:12\"\nadvertise = \"b.example:12\"\nadmin_listen = \"127.0.0.1:4\"",
                None,
            ),
            (
                "peer_listen = \"0.0.0.0:12\"\nadvertise = \"b.example:12\"\nadmin_listen = \"0.0.0.0:3\"",
                Some("http://b.example:3/"),
            ),
        ] {
            let [a, b] = pages(own, of_b);
            assert_eq!((a, b.as_deref()), (page_of_a.clone(), expected), "{of_b}");
        }
        // Each on a host of its own, at the same port there.
        let on = |host: &str| {
            format!(
                "peer_listen = \"0.0.0.0:12\"\nadvertise = \"{host}:12\"\nadmin_listen = \"0.0.0.0:3\""
            )
        };
        let [a, b] = pages(&on("a.example"), &on("b.example"));
        assert_eq!(a.as_deref(), Some("http://a.example:3/"));
        assert_eq!(b.as_deref(), Some("http://b.example:3/"));
    }
}
