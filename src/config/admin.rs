//! The admin listener: `[[server]] admin_listen`, `[admin]`, `[security] allow_plaintext`, and `--admin`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::document::{Document, Section};
use super::file::{HINTS, MAX_DURATION, OFF};
use super::plain_text::is_admin_secret;
use super::servers::{is_host_name, overlap};
use super::tls::{file_path, write_path};
use super::units::written;
use super::{Config, ConfigError, ServerConfig, TlsSettings};
use crate::limits::HANDED_ADMIN_BYTES;

/// `[admin]`: the same for the admin listeners of all servers.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Names that a request may have in `Host`, in lower case, besides `localhost` and addresses.
    pub hosts: Vec<String>,
    /// Whether ids and positions of clients may be shown; if it is not set,
    /// [`AdminSettings::shows_positions`] decides.
    pub positions: Option<bool>,
    /// How long after its start a server counts as ready even if it is not in sync with its neighbours.
    pub ready_timeout: Duration,
    /// Whether the admin listener speaks TLS, with the certificate of `[tls]`.
    pub tls: bool,
    /// The authorities of operators' certificates (PEM). Where it is set, all paths but the health paths need one.
    pub ca: Option<PathBuf>,
}

/// Where `--admin` puts the admin listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddresses {
    /// The servers count up from this address, in the order of the configuration.
    From(SocketAddr),
    /// Each of these servers has its own; the others have those of the configuration.
    Of(BTreeMap<String, SocketAddr>),
}

/// `[security]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecuritySettings {
    /// The listeners that may use plain text beyond loopback.
    pub allow_plaintext: Vec<PlainText>,
}

/// A kind of listener that `allow_plaintext` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainText {
    Admin,
    Neighbours,
}

impl Default for AdminSettings {
    fn default() -> AdminSettings {
        AdminSettings {
            hosts: Vec::new(),
            positions: None,
            ready_timeout: Duration::from_secs(30),
            tls: false,
            ca: None,
        }
    }
}

impl AdminSettings {
    /// Whether an admin listener at this address shows ids and positions of clients: by default only on loopback.
    pub fn shows_positions(&self, address: SocketAddr) -> bool {
        self.positions.unwrap_or_else(|| is_loopback(address))
    }
}

impl AdminAddresses {
    /// The addresses that [`Config::admin_text`] has written; None if the text is not valid.
    pub fn handed_on(text: &str) -> Option<AdminAddresses> {
        let of = |line: &str| {
            let (name, address) = line.split_once(' ')?;
            Some((name.to_owned(), address.parse().ok()?))
        };
        text.lines().map(of).collect::<Option<_>>().map(AdminAddresses::Of)
    }
}

impl SecuritySettings {
    pub fn allows(&self, listener: PlainText) -> bool {
        self.allow_plaintext.contains(&listener)
    }
}

impl PlainText {
    pub fn name(self) -> &'static str {
        match self {
            PlainText::Admin => "admin",
            PlainText::Neighbours => "neighbours",
        }
    }

    fn named(name: &str) -> Option<PlainText> {
        [PlainText::Admin, PlainText::Neighbours].into_iter().find(|kind| kind.name() == name)
    }
}

/// Whether only this host can connect to an address.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Reads `[admin]`.
pub(super) fn read(
    document: &Document<'_>,
    mut section: Section<'_, '_>,
    tls: &TlsSettings,
    admin: &mut AdminSettings,
) {
    for host in section.texts("hosts", "[\"herd.example\"]") {
        match is_host_name(host.get_ref()) {
            true => admin.hosts.push(host.get_ref().to_ascii_lowercase()),
            false => {
                let expected = "host names without a port, such as [\"herd.example\"]";
                section.refuse("hosts", &host.span(), expected);
            }
        }
    }
    let mut positions = false;
    section.flag("positions", &mut positions);
    if section.has("positions") {
        admin.positions = Some(positions);
    }
    section.duration("ready_timeout", MAX_DURATION, &mut admin.ready_timeout);
    section.flag("tls", &mut admin.tls);
    if admin.tls && tls.own.is_none() {
        let text = "admin.tls needs a certificate: set `certificate` and `key` in [tls]";
        document.fault(section.at(), text.to_owned());
    }
    let ca = file_path(&mut section, "ca", "\"tls/operators-ca.pem\"");
    if let Some(ca) = &ca
        && !admin.tls
    {
        document.fault(&ca.span(), "admin.ca needs tls = true in [admin]".to_owned());
    }
    admin.ca = ca.map(Spanned::into_inner);
    section.finish(&HINTS);
}

/// Reads `[security]`.
pub(super) fn read_security(
    document: &Document<'_>,
    mut section: Section<'_, '_>,
    security: &mut SecuritySettings,
) {
    for name in section.texts("allow_plaintext", "[\"neighbours\"]") {
        match PlainText::named(name.get_ref()) {
            None => section.refuse("allow_plaintext", &name.span(), LISTENERS),
            Some(kind) if security.allows(kind) => {
                let text =
                    format!("`security.allow_plaintext` names {:?} more than once", kind.name());
                document.fault(&name.span(), text);
            }
            Some(kind) => security.allow_plaintext.push(kind),
        }
    }
    section.finish(&HINTS);
}

/// The value of `admin_listen`: an address, or none.
pub(super) fn listen(text: &str) -> Option<Option<SocketAddr>> {
    if text == OFF { Some(None) } else { text.parse().ok().map(Some) }
}

/// Why an admin listener may not be at this address without `allow_plaintext`, and the remedy.
pub(super) fn refusal(listener: &str, address: SocketAddr) -> String {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    format!(
        "{listener} can be reached from other hosts, and the admin listener has neither TLS nor a password; \
         use a loopback address ({here}), or set tls = true in [admin], or allow_plaintext = [\"admin\"] in \
         [security]"
    )
}

/// The value of `--admin`: an address, or a port on loopback.
pub fn parse_address(text: &str) -> Option<SocketAddr> {
    let is_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match is_port {
        true => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, text.parse().ok()?))),
        false => text.parse().ok(),
    }
}

impl Config {
    /// Applies `--admin`.
    pub(super) fn apply_admin(&mut self, addresses: &AdminAddresses) -> Result<(), ConfigError> {
        match addresses {
            AdminAddresses::From(first) => self.count_up(*first),
            AdminAddresses::Of(addresses) => {
                for server in &mut self.servers {
                    let address = addresses.get(&server.name).copied();
                    server.admin_listen = address.or(server.admin_listen);
                }
                addresses.values().try_for_each(|address| self.check_safe(*address))
            }
        }
    }

    fn check_safe(&self, address: SocketAddr) -> Result<(), ConfigError> {
        match is_loopback(address) || is_admin_secret(self) {
            true => Ok(()),
            false => Err(ConfigError::Admin(refusal(&format!("--admin {address}"), address))),
        }
    }

    fn count_up(&mut self, first: SocketAddr) -> Result<(), ConfigError> {
        self.check_safe(first)?;
        let count = self.servers.len();
        for (place, server) in self.servers.iter_mut().enumerate() {
            let step = if first.port() == 0 { 0 } else { place };
            let Ok(port) = u16::try_from(usize::from(first.port()) + step) else {
                return Err(ConfigError::Admin(format!(
                    "--admin {first}: the ports of {count} servers count up from there, past 65535; choose a \
                     lower port"
                )));
            };
            server.admin_listen = Some(SocketAddr::new(first.ip(), port));
        }
        self.check_admin_ports(first)
    }

    /// The admin addresses of all servers as a text, for [`AdminAddresses::handed_on`]; None if it would be longer than
    /// [`HANDED_ADMIN_BYTES`].
    pub fn admin_text(&self) -> Option<String> {
        let mut text = String::new();
        for ServerConfig { name, admin_listen, .. } in &self.servers {
            if let Some(address) = admin_listen {
                let _ = writeln!(text, "{name} {address}"); // Writing to a String never fails.
            }
        }
        (text.len() <= HANDED_ADMIN_BYTES).then_some(text)
    }

    /// After a reload of the whole herd: the servers that `old` has keep their addresses, and new ones count on from
    /// the last of them, so that no server is found where another one was.
    pub fn keep_admin(&mut self, first: SocketAddr, old: &Config) -> Result<(), ConfigError> {
        if first.port() == 0 {
            return Ok(());
        }
        let ports = old.servers.iter().filter_map(|server| Some(server.admin_listen?.port()));
        let mut last = ports.max().unwrap_or(first.port());
        for server in &mut self.servers {
            let before = old.server(&server.name).map(|place| &old.servers[place]);
            server.admin_listen = before.and_then(|before| before.admin_listen);
            if server.admin_listen.is_none() {
                let Some(next) = last.checked_add(1) else {
                    return Err(ConfigError::Admin(format!(
                        "--admin {first}: the port of {} would be past 65535; restart the herd with a lower port",
                        server.name
                    )));
                };
                last = next;
                server.admin_listen = Some(SocketAddr::new(first.ip(), next));
            }
        }
        self.check_admin_ports(first)
    }

    /// `--admin` may have led to a port that a server listens on already.
    fn check_admin_ports(&self, first: SocketAddr) -> Result<(), ConfigError> {
        for server in &self.servers {
            let Some(admin) = server.admin_listen.filter(|admin| admin.port() != 0) else {
                continue;
            };
            for other in &self.servers {
                let of_other = [("clients", other.listen), ("neighbours", other.peer_listen)];
                let taken = of_other.into_iter().find(|(_, address)| {
                    let (ip, one) = (admin.ip().to_canonical(), address.ip().to_canonical());
                    address.port() == admin.port() && overlap(ip, one)
                });
                if let Some((what, address)) = taken {
                    return Err(ConfigError::Admin(format!(
                        "--admin {first}: {} would listen on {admin}, where {} listens for {what} ({address}); \
                         choose another port",
                        server.name, other.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// `[admin]` and `[security]` as `--check` prints them.
    pub(super) fn write_admin(&self, text: &mut String) {
        let AdminSettings { hosts, positions, ready_timeout, tls, ca } = &self.admin;
        let names: Vec<&str> =
            self.security.allow_plaintext.iter().map(|kind| kind.name()).collect();
        // Writing to a String never fails.
        let _ = writeln!(text, "\nadmin.hosts = {hosts:?}");
        let _ = match positions {
            Some(positions) => writeln!(text, "admin.positions = {positions}"),
            // A comment: it depends on the address of each server.
            None => writeln!(text, "# admin.positions = true on loopback, else false"),
        };
        let _ = writeln!(text, "admin.ready_timeout = {:?}", written(*ready_timeout));
        let _ = writeln!(text, "admin.tls = {tls}");
        write_path(text, "admin.ca", ca.as_deref());
        let _ = writeln!(text, "\nsecurity.allow_plaintext = {names:?}");
    }
}

impl ServerConfig {
    /// The addresses on which it listens, and for whom.
    pub fn listeners(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let admin = self.admin_listen.map(|address| ("administration", address));
        [("clients", self.listen), ("neighbours", self.peer_listen)].into_iter().chain(admin)
    }
}

/// What is expected in `allow_plaintext`.
const LISTENERS: &str = "a list of \"neighbours\" and \"admin\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_port_means_loopback_and_a_name_is_no_address() {
        let address = |text: &str| parse_address(text).map(|address| address.to_string());
        assert_eq!(address("32138").as_deref(), Some("127.0.0.1:32138"));
        assert_eq!(address("0.0.0.0:1").as_deref(), Some("0.0.0.0:1"));
        assert_eq!(address("[::1]:1").as_deref(), Some("[::1]:1"));
        for text in ["", "localhost:1", "65536", "+1", "-1", "1.2.3.4", ":1", "127.0.0.1:65536"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn the_servers_of_a_herd_count_up_from_the_address() {
        let mut config = Config::default();
        config.count_up(SocketAddr::from(([127, 0, 0, 1], 32138))).expect("free ports");
        let ports: Vec<u16> =
            config.servers.iter().filter_map(|one| Some(one.admin_listen?.port())).collect();
        assert_eq!(ports, [32138, 32139, 32140, 32141, 32142]);
        for (address, reason) in [
            ("127.0.0.1:65534", "past 65535"),
            ("127.0.0.1:12134", "where Goloman listens for clients"),
            ("127.0.0.1:22142", "where Welsh listens for neighbours"),
            ("0.0.0.0:32138", "allow_plaintext = [\"admin\"] in [security]"),
            ("[::]:32138", "use a loopback address (127.0.0.1:32138)"),
        ] {
            let first = address.parse().expect("an address");
            let error = Config::default().count_up(first).expect_err(address).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn after_a_reload_each_server_has_the_address_that_it_had_and_a_new_one_the_next() {
        let first = SocketAddr::from(([127, 0, 0, 1], 32138));
        let mut old = Config::default();
        old.count_up(first).expect("free ports");
        let mut new = Config::default();
        new.servers.remove(0);
        new.servers[1].name = "South".to_owned();
        new.keep_admin(first, &old).expect("free ports");
        let port = |server: &ServerConfig| Some(server.admin_listen?.port());
        let ports: Vec<u16> = new.servers.iter().filter_map(port).collect();
        assert_eq!(ports, [32139, 32143, 32141, 32142], "Hands, South, Wilkes, Welsh");
        old.servers[4].admin_listen = Some(SocketAddr::new(first.ip(), u16::MAX));
        let error = new.clone().keep_admin(first, &old).expect_err("no port is left");
        assert!(error.to_string().contains("South would be past 65535"), "{error}");
    }

    #[test]
    fn positions_are_shown_on_loopback_unless_they_are_set() {
        let mut admin = AdminSettings::default();
        let address = |text: &str| text.parse().expect("an address");
        assert!(admin.shows_positions(address("127.9.9.9:1")));
        assert!(admin.shows_positions(address("[::ffff:127.0.0.1]:1")));
        assert!(!admin.shows_positions(address("0.0.0.0:1")));
        admin.positions = Some(false);
        assert!(!admin.shows_positions(address("127.0.0.1:1")));
        admin.positions = Some(true);
        assert!(admin.shows_positions(address("0.0.0.0:1")));
    }
}
