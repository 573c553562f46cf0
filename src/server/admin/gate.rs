//! Which requests are answered at all. A page of a foreign site can let an operator's browser send requests to
//! any address, and read the answers if it makes its own name lead there ("DNS rebinding"). It can't choose the
//! `Host` of such a request, so only names that are known are answered.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::reply::Reply;
use crate::http::Get;

/// Refuses a request that may come from a foreign page, that asks for a change, or whose target is no path.
pub(super) fn check(request: &Get, hosts: &[String]) -> Result<(), Reply> {
    if !is_known(&request.host, hosts) {
        return Err(Reply::text(421, UNKNOWN_HOST.to_owned()));
    }
    if is_of_another_site(request) && !is_link_to_page(request) {
        return Err(Reply::text(
            403,
            "requests from pages of other sites are refused\n".to_owned(),
        ));
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Err(Reply::text(405, "only GET and HEAD are answered\n".to_owned()));
    }
    if !request.target.starts_with('/') {
        return Err(Reply::text(400, "the target must be a path, such as /healthz\n".to_owned()));
    }
    Ok(())
}

fn is_of_another_site(request: &Get) -> bool {
    request.fetch_site.split(',').any(|site| site.trim().eq_ignore_ascii_case("cross-site"))
}

/// Whether an operator follows a link to the page, such as one on the page of another server: the browser shows the
/// answer as a page of its own, and the page with the link can't read it. (In a frame the destination would be another
/// one.)
fn is_link_to_page(request: &Get) -> bool {
    request.target == "/" && request.fetch_dest == "document"
}

/// Whether a `Host` is an address, `localhost`, or one of the configured names; with or without a port.
fn is_known(host: &str, hosts: &[String]) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("localhost", port),
            _ => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = port.strip_prefix(':').map_or(port.is_empty(), is_port);
    let is_name = || {
        name.eq_ignore_ascii_case("localhost")
            || hosts.iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    has_port && (name.parse::<Ipv4Addr>().is_ok() || is_name())
}

const UNKNOWN_HOST: &str = "the Host of the request is neither an address nor localhost; list the name in \
                            [admin] hosts of the configuration, or use the address\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_listed_names_are_known() {
        let hosts = ["herd.example".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:32138",
            "10.0.0.1:1",
            "localhost",
            "LocalHost:32138",
            "[::1]",
            "[::1]:32138",
            "[fe80::1]:1",
            "herd.example",
            "Herd.Example:32138",
            "localhost:",
        ] {
            assert!(is_known(host, &hosts), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:32138",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "herd.example.evil.example",
            "xherd.example",
            "localhost:32138@evil.example",
            "localhost@evil.example",
            "[::1].evil.example",
            "[::1]evil",
            "[evil.example]",
            "::1",
            "127.0.0.1:80:80",
            "localhost:http",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "localhost.",
            "127.0.0.1,evil.example",
            "localhost evil",
        ] {
            assert!(!is_known(host, &hosts), "{host}");
        }
    }
}
