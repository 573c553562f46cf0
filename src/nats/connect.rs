//! The beginning of a connection: INFO of the server, CONNECT of the client.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::error::WireError;

/// What a server says of itself. Fields that it leaves out, or that are null, have their default; others are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Info {
    #[serde(deserialize_with = "or_default")]
    pub server_id: String,
    #[serde(deserialize_with = "or_default")]
    pub server_name: String,
    /// As text; see [`Info::version`].
    #[serde(deserialize_with = "or_default", rename = "version")]
    pub version_text: String,
    /// Whether it knows headers.
    #[serde(deserialize_with = "or_default")]
    pub headers: bool,
    /// Whether it has JetStream itself. One without may route to others that have.
    #[serde(deserialize_with = "or_default")]
    pub jetstream: bool,
    /// The bytes that a message may have, headers included; see [`Info::max_message_bytes`].
    #[serde(deserialize_with = "or_default")]
    pub max_payload: i64,
    #[serde(deserialize_with = "or_default")]
    pub auth_required: bool,
    /// What an nkey signs.
    pub nonce: Option<String>,
    /// Whether TLS must begin now.
    #[serde(deserialize_with = "or_default")]
    pub tls_required: bool,
    /// Whether TLS may begin now.
    #[serde(deserialize_with = "or_default")]
    pub tls_available: bool,
    /// Addresses of the other servers of its cluster, each `host:port`.
    #[serde(deserialize_with = "or_default")]
    pub connect_urls: Vec<String>,
    /// It is about to go ("lame duck mode").
    #[serde(deserialize_with = "or_default", rename = "ldm")]
    pub is_leaving: bool,
    #[serde(deserialize_with = "or_default")]
    pub client_ip: String,
    /// The name of its cluster; empty if it is in none.
    #[serde(deserialize_with = "or_default")]
    pub cluster: String,
}

impl Info {
    /// Reads the JSON of INFO.
    pub fn parse(json: &[u8]) -> Result<Info, WireError> {
        serde_json::from_slice(json).map_err(|error| WireError::Info(error.to_string()))
    }

    pub fn version(&self) -> Version {
        Version::parse(&self.version_text)
    }

    /// The most bytes that a message of this server may have for us. It is more than [`Info::max_payload`], for answers of
    /// JetStream hold stored messages as base64, and are not bounded by it.
    pub fn max_message_bytes(&self) -> usize {
        let payload = usize::try_from(self.max_payload).unwrap_or(0).min(LARGEST_PAYLOAD);
        2 * payload + CONTROL_BYTES
    }
}

/// NATS refuses to be configured with more.
const LARGEST_PAYLOAD: usize = 64 * 1024 * 1024;
/// Room for answers of JetStream of a server that takes small payloads only.
const CONTROL_BYTES: usize = 64 * 1024;

/// The version of a server. Texts that are no version are 0.0.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `2.10.19`, `v2.10.19` and `2.11.0-preview.1`.
    pub fn parse(text: &str) -> Version {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+', ' ']).unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Version(next(), next(), next())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// CONNECT: what we are, and how we prove it. [`Credentials::prove`](super::Credentials::prove) fills in the proof.
#[derive(Clone, Default, Serialize)]
pub struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    /// How we appear in the lists of the server.
    pub name: &'a str,
    lang: Lang,
    /// Our version.
    pub version: &'a str,
    protocol: u8,
    headers: bool,
    no_responders: bool,
    echo: bool,
    pub tls_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "pass")]
    pub password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "auth_token")]
    pub token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<String>,
    /// Of the nonce, in base64url.
    #[serde(skip_serializing_if = "Option::is_none", rename = "sig")]
    pub signature: Option<String>,
}

#[derive(Clone, Copy, Default, Serialize)]
enum Lang {
    #[default]
    #[serde(rename = "rust")]
    Rust,
}

impl<'a> Connect<'a> {
    /// Without credentials.
    pub fn new(name: &'a str, version: &'a str) -> Connect<'a> {
        Connect {
            name,
            version,
            // INFO may come again at any time, with other servers.
            protocol: 1,
            headers: true,
            // A request that nobody hears is answered by 503.
            no_responders: true,
            // A member hears what it has published itself.
            echo: true,
            ..Connect::default()
        }
    }

    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"CONNECT ");
        // Writing to a vector never fails, and each field is a text, a number or a bool.
        _ = serde_json::to_writer(&mut *out, self);
        out.extend_from_slice(b"\r\n");
    }
}

/// Without what proves who we are.
impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Connect");
        shown.field("name", &self.name).field("version", &self.version);
        shown.field("tls_required", &self.tls_required).finish_non_exhaustive()
    }
}

/// A value, or the default where null stands.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
