//! Which path is answered by what, and the parameters of a request.

use std::ops::RangeInclusive;

use super::exposition::Exposition;
use super::page;
use super::reply::Reply;
use crate::application::ConnectionId;
use crate::clock::Now;
use crate::http::Get;
use crate::server::Server;
use crate::server::metrics::AdminPath;

impl Server {
    /// The answer to a request, and the path under which it is counted.
    pub(super) fn route_admin(
        &mut self,
        request: &Get,
        id: ConnectionId,
        now: Now,
    ) -> (AdminPath, Answer) {
        let (name, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let Some(path) = path_of(name) else {
            return (AdminPath::Other, Answer::Now(not_found()));
        };
        let answer = match path {
            AdminPath::Connz => self.ask_connz(query, id, now),
            AdminPath::Events => no_parameters(path, query).map(|()| Answer::Events),
            AdminPath::PageFile => no_parameters(path, query)
                .map(|()| Answer::Now(page::file(name).unwrap_or_else(not_found))),
            _ => self.answer(path, query, &request.accept, now).map(Answer::Now),
        };
        let refused = |reason| Answer::Now(Reply::text(400, format!("{reason}\n")));
        (path, answer.unwrap_or_else(refused))
    }

    /// The same for a client without the certificate that it would need: only probes are answered, which can't show one.
    pub(super) fn route_uncertified(
        &mut self,
        request: &Get,
        id: ConnectionId,
        now: Now,
    ) -> (AdminPath, Answer) {
        if is_health(&request.target) {
            return self.route_admin(request, id, now);
        }
        let name = request.target.split_once('?').map_or(&request.target[..], |(name, _)| name);
        let path = path_of(name).unwrap_or(AdminPath::Other);
        (path, Answer::Now(Reply::text(403, NO_CERTIFICATE.to_owned())))
    }

    /// Err if the query has a parameter that the path does not know, or a malformed one.
    fn answer(
        &mut self,
        path: AdminPath,
        query: &str,
        accept: &str,
        now: Now,
    ) -> Result<Reply, String> {
        let mut query = Query::parse(query)?;
        let reply = match path {
            AdminPath::Livez => self.livez(now),
            AdminPath::Readyz => self.readyz(now),
            AdminPath::Healthz => {
                let is_strict = query.one_of("strict", &[("0", false), ("1", true)])?;
                self.healthz(is_strict.unwrap_or(false), now)
            }
            AdminPath::Metrics => self.exposition(accept, now),
            AdminPath::Varz => self.varz(now),
            AdminPath::Linksz => self.linksz(now),
            AdminPath::Turns => self.turns(&mut query, now)?,
            AdminPath::Page => self.page(now),
            _ => not_found(),
        };
        query.finish(path)?;
        Ok(reply)
    }
}

impl Server {
    /// All metrics, in the format that the request takes.
    fn exposition(&mut self, accept: &str, now: Now) -> Reply {
        let exposition = Exposition::accepted([accept.as_bytes()]);
        let is_ready = self.is_ready(now);
        let text = exposition.encode(self.families(is_ready, now));
        Reply::new(200, exposition.content_type(), text.into_bytes())
    }
}

fn not_found() -> Reply {
    Reply::text(404, NOT_FOUND.to_owned())
}

fn no_parameters(path: AdminPath, query: &str) -> Result<(), String> {
    Query::parse(query)?.finish(path)
}

/// The path with this name, if it is one that is answered.
fn path_of(name: &str) -> Option<AdminPath> {
    Some(match name {
        "/livez" => AdminPath::Livez,
        "/readyz" => AdminPath::Readyz,
        "/healthz" => AdminPath::Healthz,
        "/metrics" => AdminPath::Metrics,
        "/varz" => AdminPath::Varz,
        "/connz" => AdminPath::Connz,
        "/linksz" => AdminPath::Linksz,
        "/debug/turns" => AdminPath::Turns,
        "/" => AdminPath::Page,
        "/events" => AdminPath::Events,
        name if page::file(name).is_some() => AdminPath::PageFile,
        _ => return None,
    })
}

/// Whether a request is a probe, whose answer takes microseconds.
pub(super) fn is_health(target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    matches!(path, "/livez" | "/readyz" | "/healthz")
}

/// How a request is answered.
pub(super) enum Answer {
    Now(Reply),
    /// The session waits for its reply.
    Later,
    /// By events.
    Events,
}

/// The parameters of a request, each at most once.
pub(super) struct Query<'a> {
    left: Vec<(&'a str, &'a str)>,
}

impl<'a> Query<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Query<'a>, String> {
        let mut left: Vec<(&str, &str)> = Vec::new();
        for part in text.split('&').filter(|_| !text.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(format!("the parameter {} has no value", quoted(part)));
            };
            if left.iter().any(|(other, _)| *other == name) {
                return Err(format!("the parameter {} is given more than once", quoted(name)));
            }
            if left.len() == MAX_PARAMETERS {
                return Err(format!("the request has more than {MAX_PARAMETERS} parameters"));
            }
            left.push((name, value));
        }
        Ok(Query { left })
    }

    /// The value of a parameter, if it is given.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.left.iter().position(|(other, _)| *other == name)?;
        Some(self.left.swap_remove(at).1)
    }

    /// The value of a parameter that is a whole number in this range.
    pub(super) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, String> {
        let Some(value) = self.take(name) else {
            return Ok(default);
        };
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|number| is_number && range.contains(number));
        number.ok_or_else(|| {
            let (least, most) = range.into_inner();
            format!("{name} must be a whole number from {least} to {most}, not {}", quoted(value))
        })
    }

    /// The value of a parameter that is one of these words.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, String> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| *word == value);
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("{name} must be one of {}, not {}", words.join(", "), quoted(value))
        })
    }

    /// Refuses parameters that were not taken.
    pub(super) fn finish(self, path: AdminPath) -> Result<(), String> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("{} has no parameter {}", path.text(), quoted(name))),
        }
    }
}

/// A part of a request in a message: escaped and cut.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.chars().take(QUOTED).collect::<String>().escape_default())
}

/// Characters of a parameter in a message.
const QUOTED: usize = 40;
/// No path has as many.
const MAX_PARAMETERS: usize = 16;
const NO_CERTIFICATE: &str = "this path needs a client certificate that an authority of [admin] ca has issued; \
                              /livez, /readyz and /healthz need none\n";
const NOT_FOUND: &str = "nothing is here; known paths: /, /livez, /readyz, /healthz, /metrics, /varz, /connz, /linksz, \
                         /debug/turns, /events\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_given_once_and_known() {
        let mut query = Query::parse("strict=1&limit=").expect("two parameters");
        assert_eq!((query.take("strict"), query.take("limit")), (Some("1"), Some("")));
        assert_eq!((query.take("strict"), query.finish(AdminPath::Healthz)), (None, Ok(())));
        assert!(Query::parse("").expect("none").finish(AdminPath::Livez).is_ok());
        for (text, reason) in [
            ("strict", "the parameter \"strict\" has no value"),
            ("a=1&", "the parameter \"\" has no value"),
            ("a=1&b=2&a=1", "the parameter \"a\" is given more than once"),
            ("<\u{1b}=1", "/livez has no parameter \"<\\u{1b}\""),
        ] {
            let refused = Query::parse(text).and_then(|query| query.finish(AdminPath::Livez));
            assert_eq!(refused, Err(reason.to_owned()));
        }
    }
}
