//! `/connz`: the connections of one loop, a page at a time. A loop shows its own to the first one, which has the
//! admin listener.
//!
//! ```text
//!   first loop   request --> Command::Inspect --> handle_inspect --> page --> Command::Fill
//!   another one  request --> AdminMessage::Ask --> the same there --> AdminMessage::Answer --> Command::Fill
//! ```

use std::cmp::Ordering;

use serde::Serialize;

use super::reply::Reply;
use super::routes::Query;
use super::values::{ago, time_at};
use crate::application::{Activity, Inspected, Origin, Ticket};
use crate::clock::Now;
use crate::herd::Peer;
use crate::limits::{ADMIN_OFFSET, ADMIN_PAGE, ADMIN_PAGE_DEFAULT};
use crate::logging::IdBase64;
use crate::server::dial::{Purpose, purpose};
use crate::server::metrics::Kind;
use crate::server::tls::Shown;
use crate::server::{ADMIN, CLIENTS, PEERS, Server, Session};

/// A question for the connections of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of the question alone.
    pub(super) ticket: Ticket,
    /// The loop, counted from 1.
    pub(super) number: usize,
    limit: usize,
    offset: usize,
    sort: Sort,
    kind: Option<ConnectionKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Id,
    Idle,
    BytesIn,
    BytesOut,
    Pending,
}

/// A kind of connection; a pair between loops has none in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionKind {
    Of(Kind),
    BetweenLoops,
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(rename = "loop")]
    number: usize,
    now: Option<String>,
    /// Connections of this kind.
    total: usize,
    offset: usize,
    limit: usize,
    connections: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    /// Never used again for another connection of this loop.
    id: String,
    kind: &'static str,
    /// A pair between loops has none.
    address: Option<String>,
    transport: &'static str,
    /// The version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
    /// The names in the other side's certificate, where they may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Vec<String>>,
    opened: Option<String>,
    /// Seconds since its last byte.
    idle: f64,
    lines: Option<u64>,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    /// Bytes of its output that are not sent.
    pending: usize,
    /// Why it is not read.
    paused: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    neighbour: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_id_base64: Option<String>,
}

impl Ask {
    /// Rows of its page, at most.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// What a request asks for; there are `loops`.
    pub(super) fn parse(
        query: &mut Query<'_>,
        ticket: Ticket,
        loops: usize,
    ) -> Result<Ask, String> {
        let sort = query.one_of("sort", &Sort::ALL)?;
        let kinds: Vec<_> = ConnectionKind::all().map(|kind| (kind.name(), kind)).collect();
        Ok(Ask {
            ticket,
            limit: query.number("limit", 1..=ADMIN_PAGE, ADMIN_PAGE_DEFAULT)?,
            offset: query.number("offset", 0..=ADMIN_OFFSET, 0)?,
            sort: sort.unwrap_or(Sort::Id),
            kind: query.one_of("kind", &kinds)?,
            number: query.number("loop", 1..=loops.max(1), 1)?,
        })
    }
}

impl Sort {
    const ALL: [(&'static str, Sort); 5] = [
        ("id", Sort::Id),
        ("idle", Sort::Idle),
        ("bytes_in", Sort::BytesIn),
        ("bytes_out", Sort::BytesOut),
        ("pending", Sort::Pending),
    ];

    /// By id the smallest first, by other numbers the largest; of equal ones the smallest id.
    fn compare<S>(self, one: &Inspected<'_, S>, other: &Inspected<'_, S>) -> Ordering {
        let active = |of: &Inspected<'_, S>| of.activity.unwrap_or_default();
        let by = match self {
            Sort::Id => Ordering::Equal,
            Sort::Idle => one.silent_since.cmp(&other.silent_since),
            Sort::BytesIn => active(other).bytes_in.cmp(&active(one).bytes_in),
            Sort::BytesOut => active(other).bytes_out.cmp(&active(one).bytes_out),
            Sort::Pending => other.unsent.cmp(&one.unsent),
        };
        by.then(one.id.cmp(&other.id))
    }
}

impl ConnectionKind {
    fn all() -> impl Iterator<Item = ConnectionKind> {
        let known = Kind::ALL.iter().map(|kind| ConnectionKind::Of(*kind));
        known.chain([ConnectionKind::BetweenLoops])
    }

    fn name(self) -> &'static str {
        match self {
            ConnectionKind::Of(kind) => kind.text(),
            ConnectionKind::BetweenLoops => "loop",
        }
    }

    fn of(origin: Origin, session: Option<&Session>) -> ConnectionKind {
        ConnectionKind::Of(match (origin, session) {
            (Origin::Loop(_), _) | (_, Some(Session::LoopLink(_))) => {
                return ConnectionKind::BetweenLoops;
            }
            (Origin::Accepted(PEERS), _) => Kind::LinkIn,
            (Origin::Accepted(ADMIN), _) => Kind::Admin,
            (Origin::Accepted(CLIENTS), _) | (Origin::Accepted(_), _) => Kind::Client,
            (Origin::Dialled(ticket), _) => match purpose(ticket) {
                Purpose::Places => Kind::Places,
                Purpose::Engine => Kind::Engine,
                Purpose::Dial(_) | Purpose::LookUp(_) => Kind::LinkOut,
            },
        })
    }
}

impl Server {
    /// The page of this loop's connections that is asked for.
    pub(super) fn connz(
        &self,
        ask: &Ask,
        all: &mut dyn Iterator<Item = Inspected<'_, Session>>,
        now: Now,
    ) -> Reply {
        let end = ask.offset + ask.limit;
        let compare = |one: &Inspected<'_, Session>, other: &Inspected<'_, Session>| {
            ask.sort.compare(one, other)
        };
        let (mut total, mut first) = (0, Vec::new());
        for inspected in all {
            let kind = ConnectionKind::of(inspected.origin, inspected.session);
            if ask.kind.is_some_and(|wanted| wanted != kind) {
                continue;
            }
            total += 1;
            first.push(inspected);
            // Only the first ones can be in the page: so the memory does not grow with their number.
            if first.len() >= 2 * end + SLACK {
                keep_first(&mut first, end, compare);
            }
        }
        keep_first(&mut first, end, compare);
        let before = ask.offset.min(first.len());
        if 0 < before && before < first.len() {
            first.select_nth_unstable_by(before, compare);
        }
        let rows = &mut first[before..];
        rows.sort_unstable_by(compare);
        let page = Page {
            number: ask.number,
            now: super::values::time(now.wall),
            total,
            offset: ask.offset,
            limit: ask.limit,
            connections: rows.iter().map(|inspected| self.row(inspected, now)).collect(),
        };
        Reply::json(200, &page)
    }

    fn row(&self, inspected: &Inspected<'_, Session>, now: Now) -> Row<'_> {
        let Inspected { id, peer, origin, session, unsent, silent_since, activity, .. } =
            *inspected;
        let kind = ConnectionKind::of(origin, session);
        let count = |of: fn(Activity) -> u64| activity.map(of);
        let last_id = session.and_then(|session| self.shown_id(session));
        let base64 = last_id.map(|id| IdBase64(id).to_string()).filter(|text| !text.is_empty());
        Row {
            id: format!("{}.{}", id.slot, id.generation),
            kind: kind.name(),
            address: (kind != ConnectionKind::BetweenLoops).then(|| peer.to_string()),
            transport: match inspected.tls {
                _ if session.is_none() => "handshake",
                Some(_) => "tls",
                None => "plain",
            },
            tls: inspected.tls.filter(|_| session.is_some()).map(|tls| tls.version.number()),
            names: session.and_then(|session| self.shown_names(session)),
            opened: activity.and_then(|activity| time_at(activity.opened, now)),
            idle: ago(silent_since, now),
            lines: count(|activity| activity.lines),
            bytes_in: count(|activity| activity.bytes_in),
            bytes_out: count(|activity| activity.bytes_out),
            pending: unsent,
            paused: match session {
                _ if inspected.is_full => Some("output_full"),
                Some(session) if inspected.waits => Some(waits_for(session)),
                _ => None,
            },
            neighbour: session.and_then(|session| self.neighbour_of(session)),
            last_id: last_id.map(|id| String::from_utf8_lossy(id).into_owned()),
            last_id_base64: base64,
        }
    }

    /// The id that a client has sent last, if ids may be shown.
    fn shown_id<'a>(&self, session: &'a Session) -> Option<&'a [u8]> {
        match session {
            Session::Client(client) if self.shows_ids => client.last_id(),
            _ => None,
        }
    }

    /// The names in the certificate of its other side, if ids may be shown: a client's are ids.
    fn shown_names(&self, session: &Session) -> Option<Vec<String>> {
        let shown = match session {
            _ if !self.shows_ids => None,
            Session::Client(client) => client.rights().map(|rights| &rights.shown),
            Session::CertifiedPeer(peer) => Some(&peer.certificate),
            Session::Link(neighbour) => {
                let known = self.neighbours.get(usize::from(neighbour.0));
                known.and_then(|known| known.link_certificate.as_deref())
            }
            _ => None,
        };
        shown.map(Shown::listed)
    }

    fn neighbour_of(&self, session: &Session) -> Option<&str> {
        let neighbour = match session {
            Session::Link(neighbour) | Session::LoopLink(neighbour) => *neighbour,
            Session::Peer(peer) | Session::LoopPeer(peer) => match *peer {
                Peer::Identified { neighbour, .. } | Peer::Expected(neighbour) => neighbour,
                Peer::Unidentified => return None,
            },
            Session::CertifiedPeer(certified) => match certified.peer {
                Peer::Identified { neighbour, .. } => neighbour,
                Peer::Unidentified | Peer::Expected(_) => return None,
            },
            Session::Client(_)
            | Session::Plaintext(_)
            | Session::Places(_)
            | Session::Engine(_)
            | Session::Admin(_) => return None,
        };
        self.neighbours.get(usize::from(neighbour.0)).map(|known| &known.log_name[..])
    }
}

/// Drops all but the first `count`, in no order.
fn keep_first<T>(all: &mut Vec<T>, count: usize, compare: impl FnMut(&T, &T) -> Ordering) {
    if all.len() > count {
        all.select_nth_unstable_by(count, compare);
        all.truncate(count);
    }
}

fn waits_for(session: &Session) -> &'static str {
    match session {
        Session::Client(client) => client.waits_for(),
        Session::Admin(_) => "loop",
        _ => "application",
    }
}

/// Connections that are kept beyond twice those that may be shown, so that they are sorted rarely.
const SLACK: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ones_are_kept() {
        let mut all: Vec<u32> = (0..1_000).map(|number| number * 7 % 1_000).collect();
        keep_first(&mut all, 10, Ord::cmp);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        keep_first(&mut all, 10, Ord::cmp);
        assert_eq!(all.len(), 10);
        keep_first(&mut all, 0, Ord::cmp);
        assert_eq!(all.len(), 0);
    }
}
