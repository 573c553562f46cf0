//! The call of [`Application::handle_inspect`] as text, and back: the ticket, and the connections that the
//! application looked at, each behind a semicolon.

use std::collections::HashMap;
use std::fmt::Write;
use std::str::SplitWhitespace;
use std::time::Duration;

use super::super::{Activity, Application, ConnectionId, Inspected, Ticket};
use super::text::{id, origin, parse_id, parse_origin, parse_tls, tls};
use crate::clock::Now;

pub(super) fn begin(Ticket(ticket): Ticket) -> String {
    format!("inspect\t{ticket}")
}

pub(super) fn push<S>(call: &mut String, one: &Inspected<'_, S>) {
    let silent = one.silent_since.as_nanos();
    let (is_open, waits, is_full) = (one.session.is_some(), one.waits, one.is_full);
    _ = write!(
        call,
        ";{} {} {} {is_open} {} {silent} {waits} {is_full} {}",
        id(one.id),
        one.peer,
        origin(one.origin),
        one.unsent,
        tls(one.tls),
    );
    if let Some(Activity { opened, bytes_in, bytes_out, lines }) = one.activity {
        _ = write!(call, " {} {bytes_in} {bytes_out} {lines}", opened.as_nanos());
    }
}

/// Makes the call again. `None` if the text is not what the functions above write, or names a connection that is not
/// open.
pub(super) fn replay<A: Application>(
    text: &str,
    application: &mut A,
    sessions: &HashMap<ConnectionId, A::Session>,
    now: Now,
) -> Option<()> {
    let mut parts = text.split(';');
    let ticket = Ticket(parts.next()?.parse().ok()?);
    let all: Option<Vec<_>> = parts.map(|one| parse(one, sessions)).collect();
    application.handle_inspect(ticket, &mut all?.into_iter(), now);
    Some(())
}

fn parse<'a, S>(text: &str, sessions: &'a HashMap<ConnectionId, S>) -> Option<Inspected<'a, S>> {
    let mut words = text.split_whitespace();
    let id = parse_id(words.next()?)?;
    let peer = words.next()?.parse().ok()?;
    let origin = parse_origin(&format!("{} {}", words.next()?, words.next()?))?;
    let is_open: bool = words.next()?.parse().ok()?;
    let session = if is_open { Some(sessions.get(&id)?) } else { None };
    Some(Inspected {
        id,
        peer,
        origin,
        session,
        unsent: words.next()?.parse().ok()?,
        silent_since: Duration::from_nanos(words.next()?.parse().ok()?),
        waits: words.next()?.parse().ok()?,
        is_full: words.next()?.parse().ok()?,
        tls: parse_tls(words.next()?)?,
        activity: match words.next() {
            Some(opened) => Some(parse_activity(opened, &mut words)?),
            None => None,
        },
    })
}

fn parse_activity(opened: &str, words: &mut SplitWhitespace<'_>) -> Option<Activity> {
    Some(Activity {
        opened: Duration::from_nanos(opened.parse().ok()?),
        bytes_in: words.next()?.parse().ok()?,
        bytes_out: words.next()?.parse().ok()?,
        lines: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::{ListenerId, LoopId, Origin, TlsInfo, TlsVersion};
    use super::*;

    #[test]
    fn what_an_application_saw_of_its_connections_is_parsed_as_it_was_written() {
        let ids = [1, 2].map(|slot| ConnectionId { slot, generation: 7 });
        let sessions = HashMap::from([(ids[0], "session")]);
        let open = Inspected {
            tls: Some(TlsInfo {
                version: TlsVersion::V1_3,
                resumed: true,
                took: Duration::from_nanos(16),
            }),
            id: ids[0],
            peer: ([127, 0, 0, 1], 9).into(),
            origin: Origin::Accepted(ListenerId(3)),
            session: sessions.get(&ids[0]),
            unsent: 10,
            silent_since: Duration::from_nanos(11),
            activity: Some(Activity {
                opened: Duration::from_nanos(12),
                bytes_in: 13,
                bytes_out: 14,
                lines: 15,
            }),
            waits: true,
            is_full: false,
        };
        let opening = Inspected {
            id: ids[1],
            origin: Origin::Loop(LoopId(1)),
            session: None,
            tls: None,
            activity: None,
            ..open
        };
        let mut call = begin(Ticket(5));
        [&open, &opening].into_iter().for_each(|one| push(&mut call, one));
        let parts: Vec<&str> = call.split(';').collect();
        assert_eq!(parts[0], "inspect\t5");
        for (part, one) in parts[1..].iter().zip([&open, &opening]) {
            let parsed = parse(part, &sessions).expect("it is what was written");
            assert_eq!(format!("{parsed:?}"), format!("{one:?}"));
        }
        assert!(parse(parts[1], &HashMap::<_, &str>::new()).is_none(), "it is not open");
        assert!(parse(parts[1].trim_end_matches("15"), &sessions).is_none());
    }
}
