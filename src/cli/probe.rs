//! `--probe URL`: asks a server how it is, and exits with status 0 if the answer has status 200.

use std::path::Path;
use std::process::ExitCode;

use super::runtime_error;
use crate::errors::plain;
use crate::files;
use crate::limits::CERTIFICATE_FILE_BYTES;
use crate::node::{ProbeRequest, probe};
use crate::places::endpoint::Endpoint;
use crate::tls::{Authorities, ClientTls, Remedies};

/// The URL of a probe: `http://HOST[:PORT]/PATH[?QUERY]`, or the same with `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeUrl {
    is_https: bool,
    /// A name or an address, an IPv6 one without its brackets.
    host: String,
    port: u16,
    /// The path and the query.
    target: String,
}

impl ProbeUrl {
    /// None for another scheme, a user or password, a fragment, and bytes that would need escaping.
    pub fn parse(url: &str) -> Option<ProbeUrl> {
        let (scheme, rest) = url.split_once("://")?;
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(&byte);
        if !query.is_none_or(|query| query.bytes().all(is_plain)) {
            return None;
        }
        let default_port = if is_https { 443 } else { 80 };
        let Endpoint { host, port, path } = Endpoint::parse_rest(rest, default_port)?;
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Some(ProbeUrl { is_https, host, port, target: path + &query })
    }

    /// `host:port`.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Asks, and prints in one line why the answer is not 200. The built-in roots are trusted, or what the file `ca` holds.
pub(super) fn run(url: &ProbeUrl, ca: Option<&Path>) -> ExitCode {
    let scheme = if url.is_https { "https" } else { "http" };
    let failed = |reason: String| {
        let (authority, target) = (url.authority(), &url.target);
        runtime_error(&format!("{scheme}://{authority}{target}: {}", one_line(&reason)))
    };
    let tls = match url.is_https.then(|| client_tls(&url.host, ca)).transpose() {
        Ok(tls) => tls,
        Err(reason) => return failed(reason),
    };
    let (authority, target) = (url.authority(), url.target.clone());
    match probe(ProbeRequest { authority, target, tls }) {
        Ok(200) => ExitCode::SUCCESS,
        Ok(status) => failed(format!("status {status}")),
        Err(reason) => failed(reason),
    }
}

fn client_tls(host: &str, ca: Option<&Path>) -> Result<ClientTls, String> {
    let authorities = ca.map(|path| {
        let failed = |reason: String| format!("--probe-ca {}: {reason}", path.display());
        let text = files::read_regular(path, CERTIFICATE_FILE_BYTES)
            .map_err(|error| failed(plain(&error)))?;
        Authorities::from_pem(&text).map_err(|error| failed(error.to_string()))
    });
    let remedies = Remedies { authorities: "the file of --probe-ca", address: "--probe" };
    let authorities = authorities.transpose()?;
    let tls = ClientTls::new(host, authorities.as_ref(), &["http/1.1"], remedies);
    tls.map_err(|error| error.to_string())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_a_host_and_perhaps_a_port_a_path_and_a_query() {
        for (url, authority, target) in [
            ("http://127.0.0.1:32138/livez", "127.0.0.1:32138", "/livez"),
            ("HTTP://Localhost", "localhost:80", "/"),
            ("https://a.example/healthz?strict=1", "a.example:443", "/healthz?strict=1"),
            ("https://[::1]:1/", "[::1]:1", "/"),
            ("http://[fe80::1]/x", "[fe80::1]:80", "/x"),
        ] {
            let parsed = ProbeUrl::parse(url).expect(url);
            assert_eq!((parsed.authority().as_str(), parsed.target.as_str()), (authority, target));
            assert_eq!(parsed.is_https, url.starts_with("https"));
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for url in [
            "",
            "127.0.0.1:32138/livez",
            "ftp://a/",
            "http://",
            "http://a:0/",
            "http://a:65536/",
            "http://u:p@a/",
            "http://a/#x",
            "http://a/ b",
            "http://a/?b c",
            "http://a/?\r\nX: y",
            "http://[::1/",
            "http://::1/",
        ] {
            assert_eq!(ProbeUrl::parse(url), None, "{url:?}");
        }
    }
}
