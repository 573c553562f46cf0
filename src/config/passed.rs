//! Sockets that a service manager has passed to the server: they are open already, so their addresses hold, whatever the
//! file and the command line say. What must not listen beyond this host must not do so in this way, either.

use std::net::SocketAddr;

use super::plain_text::refused_sockets;
use super::{Config, ConfigError};

/// Where the sockets that were passed to a server listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedAddresses {
    /// The server's name.
    pub server: String,
    pub clients: Option<SocketAddr>,
    pub peers: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

impl Config {
    /// Gives the server the addresses of its sockets, and notes those that differ from the configuration.
    pub(super) fn apply_passed(&mut self, passed: &PassedAddresses) -> Result<(), ConfigError> {
        let Some(place) = self.server(&passed.server) else {
            return Ok(()); // Its caller says so.
        };
        // As for the addresses in the file: plain text beyond this host must be allowed, in so many words.
        if let Some(reason) = refused_sockets(self, &self.servers[place], passed) {
            return Err(ConfigError::Passed(reason));
        }
        let server = &mut self.servers[place];
        let warnings = &mut self.passed_warnings;
        let mut set = |setting, known: &mut SocketAddr, passed: SocketAddr| {
            let is_same = passed.ip() == known.ip() && [passed.port(), 0].contains(&known.port());
            if !is_same {
                warnings.push(format!(
                    "{setting} is {known}, but the service manager has passed a socket at {passed}: that one is used"
                ));
            }
            *known = passed;
        };
        if let Some(clients) = passed.clients {
            set("listen", &mut server.listen, clients);
        }
        if let Some(peers) = passed.peers {
            set("peer_listen", &mut server.peer_listen, peers);
        }
        if let Some(passed) = passed.admin {
            set("admin_listen", server.admin_listen.get_or_insert(passed), passed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PlainText;

    fn passed() -> PassedAddresses {
        PassedAddresses { server: "Goloman".to_owned(), ..PassedAddresses::default() }
    }

    fn at(text: &str) -> Option<SocketAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_passed_socket_wins_and_one_that_differs_is_a_warning() {
        let mut config = Config::default();
        let clients = at("127.0.0.1:12138");
        config.apply_passed(&PassedAddresses { clients, ..passed() }).expect("the same");
        assert_eq!((config.passed_warnings.len(), &config), (0, &Config::default()));
        let (clients, peers, admin) = (at("0.0.0.0:80"), at("[::1]:81"), at("127.0.0.1:82"));
        config
            .apply_passed(&PassedAddresses { clients, peers, admin, ..passed() })
            .expect("others");
        let server = &config.servers[0];
        assert_eq!((Some(server.listen), Some(server.peer_listen)), (clients, peers));
        assert_eq!(server.admin_listen, admin);
        assert_eq!(
            config.passed_warnings,
            [
                "listen is 127.0.0.1:12138, but the service manager has passed a socket at 0.0.0.0:80: that one is used",
                "peer_listen is 127.0.0.1:22138, but the service manager has passed a socket at [::1]:81: that one is \
                 used",
            ]
        );
    }

    #[test]
    fn a_passed_socket_needs_what_a_configured_one_needs() {
        let beyond = at("0.0.0.0:1");
        for (passed, allowed) in [
            (PassedAddresses { admin: beyond, ..passed() }, PlainText::Admin),
            (PassedAddresses { peers: beyond, ..passed() }, PlainText::Neighbours),
        ] {
            let mut config = Config::default();
            let error = config.apply_passed(&passed).expect_err("plain text beyond this host");
            assert!(error.to_string().contains("allow_plaintext"), "{error}");
            assert_eq!(config, Config::default(), "nothing has changed");
            config.security.allow_plaintext.push(allowed);
            config.apply_passed(&passed).expect("it is allowed");
        }
    }
}
