//! The configuration file: TOML in, a checked [`Config`] out. Defines which keys there are, and their
//! values.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::document::{Document, Hints, Section, place};
use super::units::{parse_duration, written};
use super::{
    Config, ConfigError, ConfigFault, PlainText, admin, engine, log, servers, state, stop, tls,
};
use crate::addresses::PrefixError;
use crate::errors::plain;
use crate::files;
use crate::limits::{ConfiguredLimits, EXEMPT_PREFIXES, MAX_CLIENT_LINE_BYTES, RELOAD_FILE_BYTES};
use crate::places::Provider;
use crate::places::google::Shape;
use crate::protocol::Dialect;

/// A herd, and the places in the text of what is judged with the command line.
pub(super) struct Parsed {
    pub config: Config,
    /// Of the servers' names.
    pub names: Vec<Range<usize>>,
    pub state_ack: Option<Range<usize>>,
    /// Where `keep` of `[engine]` is, if it is "cache".
    pub cache_at: Option<Range<usize>>,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    text_of(files::read(path), path)
}

/// Reads a file of a process that serves already.
pub(super) fn read_again(path: &Path) -> Result<String, ConfigError> {
    text_of(files::read_regular(path, RELOAD_FILE_BYTES), path)
}

fn text_of(bytes: io::Result<Vec<u8>>, path: &Path) -> Result<String, ConfigError> {
    let bytes = bytes.map_err(|error| ConfigError::Read {
        path: path.to_owned(),
        option: "--config",
        reason: plain(&error),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let (line, column) = place(&text, valid);
        let text = "the file is not valid UTF-8".to_owned();
        ConfigError::File {
            path: path.to_owned(),
            faults: vec![ConfigFault { line, column, text }],
            more: 0,
        }
    })
}

/// Checks the text of a file. Errors name `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<Parsed, ConfigError> {
    parse_document(&Document::new(path, text), &[])
}

/// The same for a task that opens no port: plain text may be anywhere.
pub(super) fn parse_for_certificates(text: &str, path: &Path) -> Result<Parsed, ConfigError> {
    parse_document(&Document::new(path, text), &[PlainText::Neighbours, PlainText::Admin])
}

/// Every key that a configuration can have, found by parsing one with the required keys only.
pub(super) fn known_keys() -> Vec<String> {
    let document = Document::new(Path::new(""), LEAST);
    let parsed = parse_document(&document, &[]);
    debug_assert!(parsed.is_ok(), "the least configuration is one");
    document.known_keys()
}

/// `allowed` is plain text that is allowed whatever the file says.
fn parse_document(document: &Document<'_>, allowed: &[PlainText]) -> Result<Parsed, ConfigError> {
    let mut top = document.top()?;
    let mut config = Config { folder: document.folder(), ..Config::default() };
    read_settings(&mut top, &mut config);
    read_limits(document, top.section("limits"), &mut config.limits);
    read_link(top.section("link"), &mut config);
    read_places(top.section("places"), &mut config);
    log::read(document, top.section("log"), &mut config.log);
    tls::read(document, &mut top, &mut config.tls);
    admin::read(document, top.section("admin"), &config.tls, &mut config.admin);
    admin::read_security(document, top.section("security"), &mut config.security);
    config.security.allow_plaintext.extend(allowed);
    stop::read(document, top.section("stop"), &mut config.stop);
    let state_ack = state::read(top.section("state"), &mut config.state);
    let engine = engine::read::read(document, top.section("engine"));
    read_reload(top.section("reload"), &mut config);
    let sections = top.sections("server");
    let at = top.at().clone();
    top.finish(&HINTS);
    let names;
    (config.servers, names) = servers::read(document, &at, sections, &config)?;
    let engine = engine.map(|it| engine::read::finish(document, it, &config.servers));
    let (engine, cache_at) = engine.map(|it| (it.config, it.cache_at)).unzip();
    config.engine = engine;
    document.check()?;
    Ok(Parsed { config, names, state_ack, cache_at: cache_at.flatten() })
}

/// The settings before the sections.
pub(super) fn read_settings(top: &mut Section<'_, '_>, config: &mut Config) {
    let dialect = top.parsed("dialect", Dialect::named, "\"report\" or \"course\"");
    config.dialect = dialect.map_or(config.dialect, Spanned::into_inner);
    top.count("max_clients", 1..=MAX_CLIENTS, &mut config.max_clients);
    top.duration("max_future", MAX_FUTURE, &mut config.max_future);
    top.count("loops", 1..=MAX_LOOPS, &mut config.loops);
}

/// `[limits]`
fn read_limits(
    document: &Document<'_>,
    mut section: Section<'_, '_>,
    limits: &mut ConfiguredLimits,
) {
    section.size("line_bytes", MAX_CLIENT_LINE_BYTES, &mut limits.line_bytes);
    section.duration("line_timeout", MAX_DURATION, &mut limits.line_timeout);
    let expected = "\"off\", or a time such as \"500ms\"";
    if let Some(pause) = section.parsed_or("line_pause", off_or_time, expected) {
        let at = pause.span();
        limits.line_pause = pause.into_inner();
        if limits.line_pause.is_some_and(|pause| pause >= limits.line_timeout) {
            let line_timeout = written(limits.line_timeout);
            let text = format!(
                "limits.line_pause must be shorter than limits.line_timeout ({line_timeout}): \
                 otherwise a line times out before its pause is over"
            );
            document.fault(&at, text);
        }
    }
    section.count("client_connections", 1..=MAX_CONNECTIONS, &mut limits.client_connections);
    section.size("output_bytes", MAX_BYTES, &mut limits.output_bytes);
    section.duration("write_timeout", MAX_DURATION, &mut limits.write_timeout);
    section.size("buffer_bytes", MAX_BYTES, &mut limits.buffer_bytes);
    read_groups(document, &mut section, limits);
    read_handshakes(&mut section, limits);
    section.finish(&HINTS);
}

/// The limits of TLS handshakes.
fn read_handshakes(section: &mut Section<'_, '_>, limits: &mut ConfiguredLimits) {
    section.duration("handshake_timeout", MAX_DURATION, &mut limits.handshake_timeout);
    section.count("handshakes", 1..=MAX_CONNECTIONS, &mut limits.handshakes);
    section.count("handshakes_per_second", 0..=MAX_CONNECTIONS, &mut limits.handshakes_per_second);
    section.count("handshakes_burst", 1..=MAX_CONNECTIONS, &mut limits.handshakes_burst);
}

/// The limits for each group of addresses.
fn read_groups(
    document: &Document<'_>,
    section: &mut Section<'_, '_>,
    limits: &mut ConfiguredLimits,
) {
    section.count(
        "client_connections_per_address",
        0..=MAX_CONNECTIONS,
        &mut limits.client_connections_per_address,
    );
    section.count("new_ids_per_second", 0..=MAX_NEW_IDS, &mut limits.new_ids_per_second);
    section.count("new_ids_burst", 1..=MAX_CLIENTS, &mut limits.new_ids_burst);
    let prefixes = section.texts("exempt", "[\"127.0.0.0/8\", \"::1/128\"]");
    if !section.has("exempt") {
        return;
    }
    if let Some(beyond) = prefixes.get(EXEMPT_PREFIXES) {
        let text = format!("limits.exempt has more than {EXEMPT_PREFIXES} prefixes; join some");
        document.fault(&beyond.span(), text);
    }
    limits.exempt.clear();
    for text in prefixes.iter().take(EXEMPT_PREFIXES) {
        let expected = match text.get_ref().parse() {
            Ok(prefix) => {
                limits.exempt.push(prefix);
                continue;
            }
            Err(PrefixError::NoPrefix) => {
                "an IP address, or a prefix such as \"10.0.0.0/8\"".to_owned()
            }
            Err(PrefixError::HostBits(prefix)) => {
                format!("\"{prefix}\", because the bits behind the length must be 0")
            }
            Err(PrefixError::Mapped(prefix)) => format!("\"{prefix}\", its form in IPv4"),
        };
        section.refuse("exempt", &text.span(), &expected);
    }
}

/// `[link]`
pub(super) fn read_link(mut section: Section<'_, '_>, config: &mut Config) {
    section.duration("heartbeat", MAX_DURATION, &mut config.link.heartbeat);
    section.flag("refill", &mut config.link.refill);
    section.finish(&HINTS);
}

/// `[places]`
fn read_places(mut section: Section<'_, '_>, config: &mut Config) {
    let places = &mut config.places;
    let expected = "\"google\", \"google-new\" or \"offline\"";
    let provider = section.parsed("provider", Provider::named, expected);
    places.provider_override = provider.map(Spanned::into_inner);
    let shape = section.parsed("shape", Shape::named, "\"nearby\" or \"service\"");
    places.shape = shape.map_or(places.shape, Spanned::into_inner);
    section.duration("timeout", MAX_DURATION, &mut places.timeout);
    section.count("max_in_flight", 1..=MAX_CONNECTIONS, &mut places.max_in_flight);
    section.count("max_queued", 0..=MAX_CONNECTIONS, &mut places.max_queued);
    section.size("response_bytes", MAX_BYTES, &mut places.response_bytes);
    section.finish(&HINTS);
}

/// `[reload]`
fn read_reload(mut section: Section<'_, '_>, config: &mut Config) {
    let watch = section.parsed_or("watch", off_or_time, "\"off\", or a time such as \"10s\"");
    config.reload.watch = watch.and_then(Spanned::into_inner);
    section.finish(&HINTS);
}

pub(super) fn off_or_time(text: &str) -> Result<Option<Duration>, &'static str> {
    match text {
        OFF => Ok(None),
        text => parse_duration(text).map(Some),
    }
}

/// Remedies for unknown keys.
pub(super) const HINTS: Hints = Hints { elsewhere: ELSEWHERE, renamed: &RENAMED };

/// Old names of keys, and the present ones.
const RENAMED: [(&str, &str); 9] = [
    ("ahead", "max_future"),
    ("peers", "peer_listen"),
    ("begun_line", "line_timeout"),
    ("connections", "client_connections"),
    ("unsent_bytes", "output_bytes"),
    ("stalled", "write_timeout"),
    ("in_flight", "max_in_flight"),
    ("waiting", "max_queued"),
    ("answer_bytes", "response_bytes"),
];

/// Where each key belongs.
const ELSEWHERE: &[(&str, &str)] = &[
    ("dialect", "before all sections"),
    ("max_clients", "before all sections"),
    ("max_future", "before all sections"),
    ("loops", "before all sections"),
    ("name", "in [[server]]"),
    ("listen", "in [[server]]"),
    ("peer_listen", "in [[server]]"),
    ("advertise", "in [[server]]"),
    ("neighbours", "in [[server]], or in a section of its own, [tls.neighbours]"),
    ("identity", "in [[server]]"),
    ("admin_listen", "in [[server]]"),
    ("line_bytes", "in [limits]"),
    ("line_timeout", "in [limits]"),
    ("line_pause", "in [limits]"),
    ("client_connections", "in [limits]"),
    ("client_connections_per_address", "in [limits]"),
    ("new_ids_per_second", "in [limits]"),
    ("new_ids_burst", "in [limits]"),
    ("exempt", "in [limits]"),
    ("handshake_timeout", "in [limits]"),
    ("handshakes", "in [limits]"),
    ("handshakes_per_second", "in [limits]"),
    ("handshakes_burst", "in [limits]"),
    ("output_bytes", "in [limits]"),
    ("write_timeout", "in [limits]"),
    ("buffer_bytes", "in [limits]"),
    ("heartbeat", "in [link] or [engine]"),
    ("refill", "in [link]"),
    ("provider", "in [places] or [engine]"),
    ("shape", "in [places]"),
    ("timeout", "in [places] or [engine]"),
    ("max_in_flight", "in [places]"),
    ("max_queued", "in [places]"),
    ("response_bytes", "in [places]"),
    ("url", "on the command line, as --places-url"),
    ("places_url", "on the command line, as --places-url"),
    ("certificate", "in [tls] or [engine]"),
    ("key", "in [tls] or [engine]"),
    ("min_version", "in [tls]"),
    ("clients", "in a section of its own, [tls.clients] (the number of clients is `max_clients`)"),
    ("accept", "in [tls.clients] or [tls.neighbours]"),
    ("certificates", "in [tls.clients]"),
    (
        "ca",
        "in [tls.clients], [tls.neighbours], [admin] or [engine], or on the command line, as --places-ca",
    ),
    ("crl", "in [tls.clients] or [tls.neighbours]"),
    ("ids", "in [tls.clients]"),
    ("queries", "in [tls.clients]"),
    ("dial", "in [tls.neighbours] (the address of a server is its `advertise`)"),
    ("dir", "in [state]"),
    ("state_dir", "in [state], as dir"),
    ("ack", "in [state] or [engine]"),
    ("servers", "in [engine] (a server of the herd has a section of its own, [[server]])"),
    ("bucket", "in [engine]"),
    ("members", "in [engine]"),
    ("replicas", "in [engine]"),
    ("create", "in [engine]"),
    ("keep", "in [engine]"),
    ("user", "in [engine]"),
    ("password_file", "in [engine]"),
    ("token_file", "in [engine]"),
    ("nkey_file", "in [engine]"),
    ("creds_file", "in [engine]"),
    ("handshake_first", "in [engine]"),
    ("password", "in a file of its own, which password_file in [engine] names"),
    ("token", "in a file of its own, which token_file in [engine] names"),
    ("nkey", "in a file of its own, which nkey_file in [engine] names"),
    ("nkey_seed", "in a file of its own, which nkey_file in [engine] names"),
    ("creds", "in a file of its own, which creds_file in [engine] names"),
    ("on_sigterm", "in [stop]"),
    ("drain_delay", "in [stop]"),
    ("drain_duration", "in [stop]"),
    ("places_ca", "on the command line, as --places-ca"),
    ("log_dir", "on the command line, as --log-dir"),
    ("log_level", "in [log], as level"),
    ("level", "in [log]"),
    ("levels", "in [log]"),
    ("outputs", "in [log]"),
    ("format", "in [log]"),
    ("formats", "in [log]"),
    ("syslog_socket", "in [log]"),
    ("journald_socket", "in [log]"),
    ("hosts", "in [admin]"),
    ("positions", "in [admin]"),
    ("ready_timeout", "in [admin]"),
    ("allow_plaintext", "in [security]"),
    ("watch", "in [reload]"),
    ("tls_dir", "on the command line, as --tls-dir"),
    ("server", "in sections of its own, [[server]]"),
    ("limits", "in a section of its own, [limits]"),
    ("link", "in a section of its own, [link]"),
    ("places", "in a section of its own, [places]"),
    ("log", "in a section of its own, [log]"),
    ("admin", "in a section of its own, [admin]"),
    ("tls", "in a section of its own, [tls], or in [admin]"),
    ("stop", "in a section of its own, [stop]"),
    ("security", "in a section of its own, [security]"),
    ("reload", "in a section of its own, [reload]"),
    ("state", "in a section of its own, [state]"),
    ("engine", "in a section of its own, [engine]"),
    ("nats", "in a section of its own, [engine], as provider = \"nats\""),
];

/// The shortest configuration.
const LEAST: &str = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:0\"\n";
/// The value of a setting that is switched off.
pub(super) const OFF: &str = "off";
/// A year: no deadline needs to be further away.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(8_760 * 3_600);
/// No upper limit: the operator decides how far ahead a timestamp may lie.
const MAX_FUTURE: Duration = Duration::MAX;
/// Slots of the table are numbered with 32 bits.
const MAX_CLIENTS: usize = 1_000_000_000;
/// New ids per second: more than a server can handle lines.
const MAX_NEW_IDS: usize = 1_000_000_000;
/// More loops would serve few clients each, and each loop has a table of all clients.
const MAX_LOOPS: usize = 64;
/// More than any machine has descriptors.
const MAX_CONNECTIONS: usize = 10_000_000;
/// A tebibyte, more than any machine has for buffers today.
const MAX_BYTES: usize = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hints_name_each_key_and_each_new_name() {
        let keys = known_keys();
        for key in &keys {
            let (home, name) = match key.rsplit_once('.') {
                Some(("server", name)) => ("[[server]]".to_owned(), name),
                Some((section, name)) => (format!("[{section}]"), name),
                None => (String::new(), key.as_str()),
            };
            let found = ELSEWHERE.iter().find(|(known, _)| *known == name);
            let own = format!("[{key}]");
            let is_home = |place: &str| place.contains(&home) || place.contains(&own);
            assert!(found.is_some_and(|(_, place)| is_home(place)), "{key}");
        }
        for (old, new) in RENAMED {
            let is = |name: &str| keys.iter().any(|key| key.rsplit('.').next() == Some(name));
            assert!(is(new) && !is(old), "{old} -> {new}");
        }
    }
}
