//! `--make-certificates DIR`: certificates for a herd without a PKI of its own, what became of each, and the lines of
//! the configuration that use them.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use super::args::Args;
use super::{print, runtime_error, usage_error};
use crate::config::{Config, ServerConfig};
use crate::protocol::MAX_ID_BYTES;
use crate::tls::certificates::herd::{self, AUTHORITIES, Done, Request, Row, ServerNames};

/// The options beside the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    /// How long certificates of servers and clients are valid.
    pub days: u32,
    /// The ids of clients that get a certificate.
    pub clients: Vec<Vec<u8>>,
    pub renews: bool,
}

impl Making {
    /// Parses a number of days.
    pub fn days(text: &str) -> Option<u32> {
        text.parse().ok().filter(|days| (1..=MAX_DAYS).contains(days))
    }

    /// An id that a client can have.
    pub fn id(word: &std::ffi::OsStr) -> Option<Vec<u8>> {
        let id = word.as_bytes();
        let is_word = !id.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0x0b);
        (is_word && (1..=MAX_ID_BYTES).contains(&id.len())).then(|| id.to_vec())
    }
}

pub fn run(args: &Args, folder: &Path) -> ExitCode {
    let config = match Config::load_for_certificates(args.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return usage_error(&error.to_string()),
    };
    let is_taken =
        |server: &&ServerConfig| AUTHORITIES.iter().any(|it| server.name.eq_ignore_ascii_case(it));
    if let Some(server) = config.servers.iter().find(is_taken) {
        let name = &server.name;
        return usage_error(&format!(
            "the files of the server {name} would be those of an authority; give it another name"
        ));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let request = Request {
        folder: folder.to_owned(),
        servers: config.servers.iter().map(names_of).collect(),
        clients: args.making.clients.clone(),
        days: args.making.days,
        renews: args.making.renews,
        now: now.try_into().unwrap_or(i64::MAX),
    };
    match herd::make(&request) {
        Ok(rows) => {
            print(&(table(&rows) + &lines(folder, args.config.as_deref()) + &advice(folder)))
        }
        Err(error) => runtime_error(&error.to_string()),
    }
}

/// A server's names; the hosts are those of all addresses that the configuration has for it.
fn names_of(server: &ServerConfig) -> ServerNames {
    let mut hosts = Vec::new();
    let mut add = |host: String| {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    };
    for address in [server.listen, server.peer_listen].map(|address| address.ip().to_canonical()) {
        if address.is_loopback() {
            add("localhost".to_owned());
        }
        if !address.is_unspecified() {
            add(address.to_string());
        }
    }
    match host_of(server) {
        Ok(address) if address.is_loopback() => {
            add("localhost".to_owned());
            add(address.to_string());
        }
        Ok(address) => add(address.to_string()),
        Err(name) => add(name),
    }
    ServerNames { name: server.name.clone(), identity: server.identity.clone(), hosts }
}

/// The address or the name where other servers reach this one.
fn host_of(server: &ServerConfig) -> Result<IpAddr, String> {
    if let Ok(address) = server.advertise.parse::<SocketAddr>() {
        return Ok(address.ip().to_canonical());
    }
    let host = server.host();
    Err(host.strip_suffix('.').unwrap_or(host).to_owned())
}

/// What became of each certificate.
fn table(rows: &[Row]) -> String {
    let cells: Vec<[String; 4]> = rows.iter().map(cells).collect();
    let heads = ["file", "names", "valid until", ""].map(str::to_owned);
    let width = |column: usize| {
        let all = std::iter::once(&heads).chain(&cells);
        all.map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2)];
    let mut table = String::new();
    for [file, names, until, done] in std::iter::once(&heads).chain(&cells) {
        let [first, second, third] = widths;
        let row = format!("{file:first$}  {names:second$}  {until:third$}  {done}");
        let _ = writeln!(table, "{}", row.trim_end()); // Writing to a String cannot fail.
    }
    table
}

fn cells(row: &Row) -> [String; 4] {
    let until = Timestamp::from_second(row.not_after);
    let until = until.map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d").to_string());
    let done = match row.done {
        Done::Made => "made",
        Done::Renewed => "renewed",
        Done::Kept => "kept",
    };
    let done = match &row.note {
        Some(note) => format!("{done}: {}", note.escape_debug()),
        None => done.to_owned(),
    };
    // A certificate that was there may name anything.
    [row.file.escape_debug().to_string(), row.names.escape_debug().to_string(), until, done]
}

/// The lines for the configuration.
fn lines(folder: &Path, config: Option<&Path>) -> String {
    let folder = as_written(folder, config);
    let path = |file: &str| {
        let path = folder.join(file).to_string_lossy().into_owned();
        toml::Value::String(path).to_string()
    };
    let (certificate, key) = (path("{name}.pem"), path("{name}.key"));
    let (herd, clients) = (path("herd-ca.pem"), path("clients-ca.pem"));
    format!(
        "
For the configuration{}:

[tls]
certificate = {certificate}
key = {key}

[tls.clients]
accept = \"tls\"
# Where clients must show certificates:
# certificates = \"required\"
# ca = {clients}

[tls.neighbours]
accept = \"tls\"
dial = \"tls\"
ca = {herd}
",
        match config {
            Some(path) => format!(" ({})", path.display()),
            None => " (a file, see herd.example.toml)".to_owned(),
        }
    )
}

/// The folder as the configuration names it: from the configuration's own folder, or from the root.
fn as_written(folder: &Path, config: Option<&Path>) -> PathBuf {
    let Ok(absolute) = folder.canonicalize() else {
        return folder.to_owned();
    };
    let beside = config.and_then(Path::parent).map(|parent| match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    });
    let base = beside.and_then(|parent| parent.canonicalize().ok());
    match base.as_deref().and_then(|base| absolute.strip_prefix(base).ok()) {
        Some(relative) => relative.to_owned(),
        None => absolute,
    }
}

fn advice(folder: &Path) -> String {
    format!(
        "
A server needs its own certificate and key, herd-ca.pem, and clients-ca.pem if clients show certificates.
Clients trust the servers by herd-ca.pem.

Move herd-ca.key and clients-ca.key away from {}, to where no server runs:
with them anybody can join the herd, or speak for any client. They are needed only to make and renew
certificates.
",
        folder.display()
    )
}

/// The longest validity: that of the authorities.
const MAX_DAYS: u32 = 3_650;
