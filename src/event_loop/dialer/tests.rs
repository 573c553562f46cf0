//! Dials whose look-ups the test answers.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use mio::{Poll, Token, Waker};

use super::*;
use crate::application::TlsId;
use crate::application::{Io, Never, Opened, Policy};
use crate::clock::{Now, WallTime};
use crate::event_loop::acceptor::Sources;
use crate::event_loop::limits::Limits;

const NAME: &str = "a.example:9";

/// Writes down its calls.
#[derive(Default)]
struct App(Vec<String>);

impl Application for App {
    type Session = ();
    type Message = Never;

    fn handle_open(&mut self, _opened: Opened<'_>, io: &mut Io<'_>) -> Option<((), Policy)> {
        self.0.push(format!("open {}", io.peer));
        Some(((), Policy::bytes()))
    }

    fn handle_dial(&mut self, Ticket(ticket): Ticket, event: DialEvent<'_>, _now: Now) {
        self.0.push(match event {
            DialEvent::Resolved(addresses) => format!("{ticket} resolved {addresses:?}"),
            DialEvent::Connecting(address) => format!("{ticket} connecting {address}"),
            DialEvent::HandshakeFailed(address, failure) => format!("{address}: {failure:?}"),
            DialEvent::Handshaking(address) => format!("{ticket} handshaking {address}"),
            DialEvent::AttemptFailed(address, why) => format!("{ticket} attempt {address}: {why}"),
            DialEvent::Failed(why) => format!("{ticket} failed {why}"),
        });
    }
}

/// A loop's parts without a loop.
struct Parts {
    app: App,
    dialer: Dialer,
    on: Connections<()>,
    inbox: Inbox<Never>,
    _poll: Poll,
}

impl Parts {
    fn new() -> Parts {
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
        let sources = Sources::new(poll.registry().try_clone().expect("a registry"));
        let mut inbox = Inbox::new(Arc::new(waker), Arc::new(sources));
        inbox.hold_look_ups();
        let registry = poll.registry().try_clone().expect("a registry");
        let now = Now { elapsed: Duration::from_secs(1), wall: WallTime(0) };
        let on = Connections::new(registry, Limits::default(), Instant::now(), now);
        Parts { app: App::default(), dialer: Dialer::default(), on, inbox, _poll: poll }
    }

    fn dial(&mut self, dial: Dial) {
        self.dialer.dial(dial, &mut self.app, &mut self.on, &mut self.inbox);
    }

    fn dial_name(&mut self, ticket: u64, freshness: Freshness) {
        let to = Target::Name(NAME.to_owned());
        self.dial(Dial { freshness, ..Dial::new(Ticket(ticket), to) });
    }

    fn resolve(&mut self, ticket: u64) {
        let name = NAME.to_owned();
        self.dialer.resolve(Ticket(ticket), name, &mut self.app, &mut self.on, &mut self.inbox);
    }

    fn answer(&mut self, result: io::Result<Vec<SocketAddr>>) {
        self.dialer.looked_up(NAME, result, &mut self.app, &mut self.on);
    }

    /// Makes the present attempt of the only dial fail.
    fn fail(&mut self, why: &str) {
        let id = *self.dialer.attempts.keys().next().expect("an attempt");
        self.dialer.attempt_failed(id, why, None, &mut self.app, &mut self.on);
    }

    fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.app.0)
    }

    fn later(&mut self, seconds: u64) {
        self.on.shared.now.elapsed += Duration::from_secs(seconds);
    }
}

/// Listening sockets and their addresses.
fn listeners<const N: usize>() -> ([TcpListener; N], [SocketAddr; N]) {
    let all = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let addresses = std::array::from_fn(|nth| all[nth].local_addr().expect("an address"));
    (all, addresses)
}

#[test]
fn a_names_answer_that_comes_after_its_dial_was_replaced_is_ignored() {
    let (_all, [here, there]) = listeners();
    let mut parts = Parts::new();
    parts.dial_name(1, Freshness::Cached);
    parts.dial(Dial::new(Ticket(1), Target::Address(here)));
    assert_eq!(parts.events(), [format!("1 connecting {here}")]);
    parts.answer(Ok(vec![there]));
    parts.dialer.look_up_is_late(Ticket(1), &mut parts.app, &mut parts.on);
    assert_eq!(parts.events(), [""; 0]);
    parts.dial_name(2, Freshness::Cached);
    let known = [format!("2 resolved [{there}]"), format!("2 connecting {there}")];
    assert_eq!(parts.events(), known, "but it is in the cache");
}

#[test]
fn dials_and_resolves_of_one_name_share_one_look_up() {
    let (_all, [here]) = listeners();
    let mut parts = Parts::new();
    parts.dial_name(2, Freshness::Cached);
    parts.dial_name(1, Freshness::Ask(Duration::from_secs(1)));
    parts.resolve(3);
    parts.dial_name(4, Freshness::Cached);
    parts.dialer.cancel(Ticket(4), &mut parts.on);
    assert_eq!(parts.inbox.hold_look_ups(), 1);
    parts.answer(Ok(vec![here, here]));
    let dialled =
        |ticket| [format!("{ticket} resolved [{here}]"), format!("{ticket} connecting {here}")];
    let [[one, two], [three, four]] = [1, 2].map(dialled);
    assert_eq!(parts.events(), [format!("3 resolved [{here}]"), one, two, three, four]);
    parts.resolve(5);
    assert_eq!(parts.inbox.hold_look_ups(), 2, "cached addresses do not answer a look-up");
    parts.answer(Err(io::Error::other("no")));
    assert_eq!(parts.events(), [format!("5 failed {NAME}: no")]);
}

#[test]
fn a_look_up_that_fails_or_takes_too_long_fails_a_dial_only_where_nothing_is_known() {
    let mut parts = Parts::new();
    parts.dial_name(1, Freshness::Cached);
    parts.dialer.look_up_is_late(Ticket(1), &mut parts.app, &mut parts.on);
    assert_eq!(parts.events(), [format!("1 failed {NAME} is still being looked up after 10 s")]);
    parts.dial_name(1, Freshness::Cached);
    assert_eq!(parts.inbox.hold_look_ups(), 1, "the first one is still in progress");
    parts.answer(Err(io::Error::other("no")));
    parts.dial_name(2, Freshness::Cached);
    let failed = [format!("1 failed {NAME}: no"), format!("2 failed {NAME}: no")];
    assert_eq!(parts.events(), failed, "the second one without another look-up");

    let (_all, [here]) = listeners();
    let freshness = Freshness::Ask(Duration::from_millis(500));
    parts.dial_name(3, freshness);
    parts.answer(Ok(vec![here]));
    parts.later(7_200);
    parts.events();
    let dialled = [format!("4 resolved [{here}]"), format!("4 connecting {here}")];
    parts.dial_name(4, freshness);
    assert_eq!(parts.events(), [""; 0]);
    parts.later(1);
    parts.dialer.look_up_is_late(Ticket(4), &mut parts.app, &mut parts.on);
    assert_eq!(parts.events(), dialled, "the earlier answer is used, whatever its age");
    parts.dialer.cancel(Ticket(4), &mut parts.on);
    parts.dial_name(4, freshness);
    assert_eq!(parts.events(), dialled, "the look-up has had its time already");
    parts.dialer.cancel(Ticket(4), &mut parts.on);
    parts.answer(Err(io::Error::other("no")));
    parts.dial_name(4, freshness);
    parts.answer(Err(io::Error::other("no")));
    assert_eq!(parts.events(), dialled, "also if the look-up fails");
}

#[test]
fn each_address_is_tried_once_and_those_that_failed_come_last_next_time() {
    let (_all, [one, two]) = listeners();
    let mut parts = Parts::new();
    parts.dial_name(1, Freshness::Cached);
    parts.answer(Ok(vec![one, two]));
    parts.fail("no answer in time");
    parts.fail("Connection refused");
    assert_eq!(
        parts.events(),
        [
            format!("1 resolved [{one}, {two}]"),
            format!("1 connecting {one}"),
            format!("1 attempt {one}: no answer in time"),
            format!("1 connecting {two}"),
            format!("1 attempt {two}: Connection refused"),
            format!("1 failed {one}: no answer in time; {two}: Connection refused"),
        ]
    );
    assert!(parts.dialer.dials.is_empty() && parts.dialer.attempts.is_empty());
    parts.dial_name(1, Freshness::Cached);
    parts.fail("no");
    parts.dialer.opened(Ticket(1));
    parts.events();
    parts.dial_name(1, Freshness::Cached);
    let order = [format!("1 resolved [{two}, {one}]"), format!("1 connecting {two}")];
    assert_eq!(parts.events(), order);
}

#[test]
fn the_last_address_gets_the_whole_timeout_and_an_earlier_one_a_short_one() {
    let (_all, [one, two]) = listeners();
    let mut parts = Parts::new();
    parts.dial_name(1, Freshness::Cached);
    parts.answer(Ok(vec![one, two]));
    let now = parts.on.shared.now.elapsed;
    assert_eq!(parts.on.shared.timers.next(), Some(now + Duration::from_secs(1)));
    parts.fail("no");
    while parts.on.reap().is_some() {} // The loop gives the slot back, and its timers.
    assert_eq!(parts.on.shared.timers.next(), Some(now + Duration::from_secs(10)));
}

#[test]
fn a_cancelled_dial_reports_nothing() {
    let (_all, [here]) = listeners();
    let mut parts = Parts::new();
    parts.dial(Dial::new(Ticket(1), Target::Address(here)));
    let id = *parts.dialer.attempts.keys().next().expect("an attempt");
    parts.dialer.cancel(Ticket(1), &mut parts.on);
    parts.events();
    parts.dialer.check(id, &mut parts.app, &mut parts.on);
    parts.dialer.attempt_failed(id, "closed", None, &mut parts.app, &mut parts.on);
    assert_eq!(parts.events(), [""; 0]);
    assert_eq!(parts.on.state(id), Some(ConnectionState::Closed));
    parts.dial_name(1, Freshness::Cached);
    parts.dialer.cancel(Ticket(1), &mut parts.on);
    parts.answer(Ok(vec![here]));
    assert_eq!(parts.events(), [""; 0]);
    while parts.on.reap().is_some() {} // The loop gives the slot back, and its timers.
    assert_eq!(parts.on.shared.timers.next(), None);
}

#[test]
fn a_dial_that_cannot_begin_fails_with_a_reason() {
    let (_all, [here]) = listeners();
    let mut parts = Parts::new();
    let to = Target::Address(here);
    parts.dial(Dial { tls: Some(TlsId(0)), ..Dial::new(Ticket(1), to) });
    parts.dial(Dial::new(Ticket(2), Target::Loop(LoopId(7))));
    let failed = ["1 failed no such TLS configuration", "2 failed no such loop"];
    assert_eq!(parts.events(), failed);
    let literal = Target::Name(here.to_string());
    parts.dial(Dial::new(Ticket(3), literal));
    let dialled = [format!("3 resolved [{here}]"), format!("3 connecting {here}")];
    assert_eq!(parts.events(), dialled, "an address in text form needs no look-up");
    assert_eq!(parts.inbox.hold_look_ups(), 0);
}
