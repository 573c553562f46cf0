//! The herd as the configuration describes it: all servers and edges. Of those that are not its own a server knows
//! nothing more.

use serde::Serialize;

use crate::config::Config;

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
        let server = |place: usize| HerdServer {
            name: config.servers[place].name.clone(),
            page: page(config, own, place),
        };
        let servers = (0..config.servers.len()).map(server).collect();
        let edges = config.servers.iter().enumerate().flat_map(|(place, server)| {
            let further = server.neighbours.iter().filter(move |other| **other > place);
            further.map(move |other| (place, *other))
        });
        HerdMap { own, servers, edges: edges.collect() }
    }
}

fn page(config: &Config, own: usize, place: usize) -> Option<String> {
    let server = &config.servers[place];
    let address = server.admin_listen.filter(|address| address.port() != 0)?;
    if place != own && config.servers[own].admin_listen == Some(address) {
        return None; // From the command line, which is for one server.
    }
    let scheme = if config.admin.tls { "https" } else { "http" };
    match address.ip().is_unspecified() {
        false => Some(format!("{scheme}://{address}/")),
        true => Some(format!("{scheme}://{}:{}/", server.host(), address.port())),
    }
}
