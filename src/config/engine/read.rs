//! Reads `[engine]`: first by itself, then with the servers of the herd.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::url::UrlError;
use super::{EngineAck, EngineConfig, EngineKeep, EngineLogin, EngineUrl};
use crate::config::ServerConfig;
use crate::config::document::{Document, Section};
use crate::config::file::{HINTS, MAX_DURATION};
use crate::config::tls::file_path;
use crate::config::units::{parse_duration, written};
use crate::errors::{did_you_mean, listed};
use crate::limits::ENGINE_SERVERS;

/// The section as written, with the places of what depends on the servers.
pub struct Written {
    config: EngineConfig,
    /// None if all servers are members.
    members: Option<Vec<Spanned<String>>>,
    /// Where `keep` is.
    keep_at: Range<usize>,
}

/// The section and the servers together.
pub struct Finished {
    pub config: EngineConfig,
    /// Where `keep` is, if it is "cache": whether that goes together with a state directory is known once the command line
    /// is, too.
    pub cache_at: Option<Range<usize>>,
}

/// Reads the section; None if it chooses no engine, or has a mistake.
pub fn read(document: &Document<'_>, mut section: Section<'_, '_>) -> Option<Written> {
    let is_empty = section.is_empty();
    let provider = section.parsed("provider", |text| (text == NATS).then_some(()), "\"nats\"");
    let servers = read_servers(document, &mut section);
    let mut config = EngineConfig { servers, ..EngineConfig::default() };
    if let Some(bucket) = section.parsed("bucket", bucket, BUCKET) {
        config.bucket = bucket.into_inner();
    }
    let members = section.texts("members", "[\"Goloman\", \"Hands\"]");
    let members = section.has("members").then_some(members);
    section.count("replicas", 1..=MAX_REPLICAS, &mut config.replicas);
    section.flag("create", &mut config.create);
    let ack = section.parsed("ack", EngineAck::named, "\"engine\" or \"local\"");
    config.ack = ack.map_or(config.ack, Spanned::into_inner);
    let keep = section.parsed("keep", EngineKeep::named, "\"all\" or \"cache\"");
    let keep_at = keep.as_ref().map_or(section.at().clone(), Spanned::span);
    config.keep = keep.map_or(config.keep, Spanned::into_inner);
    read_times(document, &mut section, &mut config);
    config.login = read_login(document, &mut section);
    read_tls(document, &mut section, &mut config);
    if !is_empty && !section.has("provider") {
        section.misses("provider", "\"nats\" (a herd without an engine has no section [engine])");
    }
    if provider.is_some() && !section.has("servers") {
        section.misses("servers", SERVERS);
    }
    section.finish(&HINTS);
    provider.map(|_| Written { config, members, keep_at })
}

/// Finds the members among the servers, and reports what does not go together.
pub fn finish(document: &Document<'_>, written: Written, servers: &[ServerConfig]) -> Finished {
    let Written { mut config, members, keep_at } = written;
    config.has_all = members.is_none();
    config.members = match members {
        None => (0..servers.len()).collect(),
        Some(members) => find_members(document, &members, servers),
    };
    if let Some(text) = config.cache_fault(servers) {
        document.fault(&keep_at, text);
    }
    let cache_at = (config.keep == EngineKeep::Cache).then_some(keep_at);
    Finished { config, cache_at }
}

fn find_members(
    document: &Document<'_>,
    members: &[Spanned<String>],
    servers: &[ServerConfig],
) -> Vec<usize> {
    let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    let mut found = Vec::new();
    for member in members {
        let name = member.get_ref();
        match names.iter().position(|known| known == name) {
            None => {
                let near = if document.has_many() { &[][..] } else { &names[..] };
                let meant = did_you_mean(name, near.iter().copied());
                let text = format!(
                    "no server named {name:?}, listed in engine.members{meant} (servers: {})",
                    listed(&names)
                );
                document.fault(&member.span(), text);
            }
            Some(place) if found.contains(&place) => {
                let text = format!("`engine.members` names {name:?} more than once");
                document.fault(&member.span(), text);
            }
            Some(place) => found.push(place),
        }
    }
    found.sort_unstable();
    found
}

fn read_servers(document: &Document<'_>, section: &mut Section<'_, '_>) -> Vec<EngineUrl> {
    let had_empty = section.has_empty_list("servers");
    let texts = section.texts("servers", "[\"nats://127.0.0.1:4222\"]");
    if had_empty {
        section.misses("servers", SERVERS);
    }
    if let Some(beyond) = texts.get(ENGINE_SERVERS) {
        let text = format!(
            "engine.servers has more than {ENGINE_SERVERS} servers; a few are enough, because they name the others \
             of their cluster"
        );
        document.fault(&beyond.span(), text);
    }
    let mut urls: Vec<EngineUrl> = Vec::new();
    for text in texts.iter().take(ENGINE_SERVERS) {
        match EngineUrl::parse(text.get_ref()) {
            Ok(url) if urls.contains(&url) => {
                let twice = format!("`engine.servers` names {url} more than once");
                document.fault(&text.span(), twice);
            }
            Ok(url) => urls.push(url),
            Err(UrlError::Invalid(expected)) => {
                section.refuse("servers", &text.span(), &expected);
            }
            Err(UrlError::HasUser) => document.fault(&text.span(), HAS_USER.to_owned()),
        }
    }
    urls
}

fn bucket(text: &str) -> Option<String> {
    let is_valid = (1..=MAX_BUCKET_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    is_valid.then(|| text.to_owned())
}

fn read_times(document: &Document<'_>, section: &mut Section<'_, '_>, config: &mut EngineConfig) {
    let time = |least: Duration, most: Duration| {
        move |text: &str| match parse_duration(text)? {
            time if (least..=most).contains(&time) => Ok(time),
            _ => Err(""),
        }
    };
    let expected = |least, most, such_as: &str| {
        format!(
            "a time from \"{}\" to \"{}\", such as \"{such_as}\"",
            written(least),
            written(most)
        )
    };
    let range = expected(MIN_TIMEOUT, MAX_DURATION, "15s");
    let timeout = section.parsed_or("timeout", time(MIN_TIMEOUT, MAX_DURATION), &range);
    let range = expected(MIN_HEARTBEAT, MAX_HEARTBEAT, "2s");
    let heartbeat = section.parsed_or("heartbeat", time(MIN_HEARTBEAT, MAX_HEARTBEAT), &range);
    let at = heartbeat.as_ref().map(Spanned::span).or(timeout.as_ref().map(Spanned::span));
    // A value that is wrong was reported.
    let is_known = section.has("timeout") == timeout.is_some()
        && section.has("heartbeat") == heartbeat.is_some();
    config.timeout = timeout.map_or(config.timeout, Spanned::into_inner);
    config.heartbeat = heartbeat.map_or(config.heartbeat, Spanned::into_inner);
    if let Some(at) = at.filter(|_| is_known && config.timeout < 2 * config.heartbeat) {
        let text = format!(
            "engine.timeout ({}) must not be shorter than two of engine.heartbeat ({}): only after these a server of \
             NATS counts as dead, and until then answers wait for it",
            written(config.timeout),
            written(config.heartbeat)
        );
        document.fault(&at, text);
    }
}

/// The one way to log in.
fn read_login(document: &Document<'_>, section: &mut Section<'_, '_>) -> EngineLogin {
    let user = section.text("user");
    let mut files = Vec::new();
    for key in ["password_file", "token_file", "nkey_file", "creds_file"] {
        if let Some(path) = secret_path(document, section, key) {
            files.push((key, path));
        }
    }
    let has = |key: &str| section.has(key);
    if let Some(user) = &user
        && !has("password_file")
    {
        let text =
            "engine.user needs `password_file` in [engine], the file that holds the password";
        document.fault(&user.span(), text.to_owned());
    }
    if let [(first, _), (second, path), ..] = &files[..] {
        let text = format!(
            "engine.{first} and engine.{second} are two ways to log in; choose one: `user` and `password_file`, \
             `token_file`, `nkey_file` or `creds_file`"
        );
        document.fault(&path.span(), text);
    }
    let Some((key, file)) = files.into_iter().next() else {
        return EngineLogin::None;
    };
    let (at, file) = (file.span(), file.into_inner());
    match (key, user) {
        ("token_file", _) => EngineLogin::Token { file },
        ("nkey_file", _) => EngineLogin::Nkey { file },
        ("creds_file", _) => EngineLogin::Creds { file },
        (_, Some(user)) if !user.get_ref().is_empty() && user.get_ref().len() <= MAX_USER_BYTES => {
            EngineLogin::Password { user: user.into_inner(), file }
        }
        (_, Some(user)) => {
            let expected = format!("a name of 1 to {MAX_USER_BYTES} bytes");
            section.refuse("user", &user.span(), &expected);
            EngineLogin::None
        }
        (_, None) => {
            if !section.has("user") {
                let text = "engine.password_file needs `user` in [engine], whose password it is";
                document.fault(&at, text.to_owned());
            }
            EngineLogin::None
        }
    }
}

/// The path of a file that holds a secret. What may be the secret itself is not shown.
fn secret_path(
    document: &Document<'_>,
    section: &mut Section<'_, '_>,
    key: &'static str,
) -> Option<Spanned<PathBuf>> {
    let path = file_path(section, key, "\"nats/{name}.secret\"")?;
    let text = path.get_ref().to_string_lossy();
    let is_seed = text.starts_with('S')
        && text.len() == SEED_BYTES
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if is_seed || text.starts_with("eyJ") || text.contains('\n') {
        let text = format!(
            "engine.{key} is the path of a file, and this looks like the secret itself (it is not shown): write it to a \
             file that only the server can read, and name that"
        );
        document.fault(&path.span(), text);
        return None;
    }
    Some(path)
}

fn read_tls(document: &Document<'_>, section: &mut Section<'_, '_>, config: &mut EngineConfig) {
    config.ca = file_path(section, "ca", "\"nats/ca.pem\"").map(Spanned::into_inner);
    let certificate = file_path(section, "certificate", "\"nats/{name}.pem\"");
    let key = file_path(section, "key", "\"nats/{name}.key\"");
    if section.has("certificate") != section.has("key") {
        let at = certificate.as_ref().or(key.as_ref()).map(Spanned::span);
        let text = "engine.certificate and engine.key belong together; set both, or none";
        document.fault(&at.unwrap_or(section.at().clone()), text.to_owned());
    }
    config.certificate = certificate.map(Spanned::into_inner).zip(key.map(Spanned::into_inner));
    section.flag("handshake_first", &mut config.handshake_first);
}

const NATS: &str = "nats";
const SERVERS: &str = "a list of servers of NATS, such as [\"nats://127.0.0.1:4222\"]";
const BUCKET: &str = "a name of 1 to 64 letters, digits, '_' and '-', such as \"herd\"";
const HAS_USER: &str = "a server of NATS is named without a user (the value is not shown because it may contain a \
                        password); use `user` and `password_file` in [engine]";
/// The stream's name is `KV_` and this, and a file name of NATS.
const MAX_BUCKET_BYTES: usize = 64;
/// NATS keeps at most so many copies of a stream.
const MAX_REPLICAS: usize = 5;
/// An answer that is held for less would be lost whenever NATS is busy.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
/// NATS does not send its own heartbeats more often.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);
/// NATS forgets a consumer that nobody has followed for 30 s; by then a connection that is dead must be known.
const MAX_HEARTBEAT: Duration = Duration::from_secs(10);
/// CONNECT must fit into a control line of NATS (4,096 bytes).
const MAX_USER_BYTES: usize = 256;
/// The seed of an nkey as text.
const SEED_BYTES: usize = 58;
