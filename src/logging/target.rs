//! The targets of log records. They are words for the operator, who sets a level for each of them
//! (`--log-level info,link=debug`), and not paths of modules. A record without one of these targets
//! follows the level without a target.

/// Clients: their connections and their lines.
pub const CLIENT: &str = "client";
/// Connections and lines between servers, in both directions.
pub const LINK: &str = "link";
/// `Sending …` and `Port … is down …`: the flooding of an update, one record for each neighbour.
pub const FLOOD: &str = "flood";
/// The result of an update in the table of clients.
pub const TABLE: &str = "table";
/// Queries for places and the service that answers them.
pub const PLACES: &str = "places";
/// Requests to this program's own Places server.
pub const HTTP: &str = "http";
/// The admin listener: its connections and requests.
pub const ADMIN: &str = "admin";
/// Handshakes and certificates.
pub const TLS: &str = "tls";
/// The configuration.
pub const CONFIG: &str = "config";
/// The event loop: listeners, limits, signals, start and stop; and the log itself.
pub const LOOP: &str = "loop";
/// The processes of `--herd`.
pub const SUPERVISOR: &str = "supervisor";

/// The state directory: what of the table is on the disk.
pub const STATE: &str = "state";
/// The engine: the connection to it, and what is read from it and published.
pub const ENGINE: &str = "engine";

/// All of them.
pub const ALL: [&str; 13] =
    [CLIENT, LINK, FLOOD, TABLE, PLACES, HTTP, ADMIN, TLS, CONFIG, LOOP, SUPERVISOR, STATE, ENGINE];

/// The number of a target in [`ALL`]; of any other text, the number of [`LOOP`].
pub(super) fn number(target: &str) -> u8 {
    let is_it = |known: &&str| *known == target;
    let place = ALL.iter().position(is_it).or_else(|| ALL.iter().position(|known| *known == LOOP));
    place.unwrap_or_default() as u8
}
