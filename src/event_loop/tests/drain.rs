//! A drain in simulated time: which connections go when, and what begins and ends it.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::UnixStream;

use super::{Echo, add, add_at, event_loop, turn};
use crate::application::{Closed, Command, ConnectionId, Control, ListenerId, TlsId};
use crate::event_loop::{Change, ControlRequest, Controls, EventLoop, Limits, Listen, Termination};
use crate::tls::{ClientTls, Remedies};

/// 10 s as before, then 20 s of closing.
fn limits() -> Limits {
    let seconds = Duration::from_secs;
    Limits {
        drain_delay: seconds(10),
        drain_duration: seconds(30),
        grace: seconds(5),
        ..Limits::default()
    }
}

/// A loop that listens for two kinds of connections: those of the first one drain.
fn listening() -> EventLoop<Echo> {
    let mut event_loop = event_loop(limits());
    for (id, drains) in [(0, true), (1, false)] {
        let address = ([127, 0, 0, 1], 0).into();
        let listen = Listen { drains, ..Listen::on(ListenerId(id), address) };
        event_loop.listen(listen).expect("a port");
    }
    event_loop
}

/// So much time passes, and what is due is done.
fn pass(event_loop: &mut EventLoop<Echo>, time: Duration) {
    event_loop.start -= time;
    for _ in 0..4 {
        turn(event_loop);
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The delay passes, and the first steps that release nobody yet.
fn pass_delay(event_loop: &mut EventLoop<Echo>) {
    pass(event_loop, seconds(10.0));
    assert_eq!(event_loop.acceptor.len(), 1, "one listener does not drain");
}

/// Closes the other ends that have ended, and returns their numbers.
fn ended(others: &mut [Option<UnixStream>]) -> Vec<usize> {
    let mut ended = Vec::new();
    for (number, other) in others.iter_mut().enumerate() {
        let Some(stream) = other else { continue };
        match stream.read(&mut [0; 64]) {
            Ok(0) => {
                ended.push(number);
                *other = None;
            }
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    ended
}

#[test]
fn the_longest_silent_are_released_first_and_evenly() {
    const COUNT: usize = 400;
    let mut event_loop = listening();
    let mut others: Vec<Option<UnixStream>> =
        (0..COUNT).map(|_| Some(add(&mut event_loop).1)).collect();
    let (_, mut stays) = add_at(&mut event_loop, ListenerId(1));
    turn(&mut event_loop);
    // Number 0 spoke last.
    for number in (0..COUNT).rev() {
        pass(&mut event_loop, seconds(0.001));
        let other = others[number].as_mut().expect("it is open");
        other.write_all(b"here\n").expect("it is connected");
        turn(&mut event_loop);
    }
    event_loop.drain();
    assert_eq!(event_loop.app.controls, [Control::Drain]);
    pass(&mut event_loop, seconds(9.9));
    assert_eq!(ended(&mut others), [0; 0], "it goes on as before");
    pass_delay(&mut event_loop);
    let mut order = Vec::new();
    while order.len() < COUNT {
        let before = event_loop.connections.shared.now.elapsed;
        pass(&mut event_loop, seconds(0.101));
        let batch = ended(&mut others);
        // Two, or some more: the loop's time goes on where this test itself is held up.
        let passed = event_loop.connections.shared.now.elapsed - before;
        let most = (passed.as_secs_f64() * 80.0) as usize;
        assert!((1..=most).contains(&batch.len()), "{} in {passed:?}", batch.len());
        order.extend(batch.into_iter().rev());
    }
    assert!(order.iter().copied().eq((0..COUNT).rev()), "{order:?}");
    stays.write_all(b"still here?\n").expect("it is connected");
    turn(&mut event_loop);
    let mut answer = [0; 64];
    let count = stays.read(&mut answer).expect("an answer");
    assert_eq!(&answer[..count], b"still here?!", "until the loop stops");
    let drained = event_loop.app.closed.iter().filter(|(_, why)| *why == Closed::Drained).count();
    assert_eq!(drained, COUNT);
}

#[test]
fn after_the_last_connection_the_application_is_waited_for() {
    let mut event_loop = listening();
    event_loop.app.is_busy = true;
    let (_, other) = add(&mut event_loop);
    event_loop.drain();
    pass_delay(&mut event_loop);
    pass(&mut event_loop, seconds(0.1));
    drop(other);
    pass(&mut event_loop, seconds(15.0));
    assert!(event_loop.shutdown.is_draining(), "the application is not done");
    event_loop.app.is_busy = false;
    turn(&mut event_loop);
    turn(&mut event_loop);
    assert!(event_loop.shutdown.is_over() && !event_loop.shutdown.has_grace_expired());
}

#[test]
fn a_drain_that_is_not_over_in_time_becomes_a_stop_with_its_grace() {
    let mut event_loop = listening();
    let (waiting, mut other) = add(&mut event_loop);
    other.write_all(b"wait\n").expect("it is connected");
    turn(&mut event_loop);
    event_loop.drain();
    pass_delay(&mut event_loop);
    pass(&mut event_loop, seconds(19.95));
    assert!(event_loop.shutdown.is_draining());
    pass(&mut event_loop, seconds(1.1)); // The last connections get a second more.
    assert!(!event_loop.shutdown.is_draining() && event_loop.shutdown.is_under_way());
    assert!(is_open(&mut event_loop, waiting), "it still waits");
    pass(&mut event_loop, seconds(3.8));
    assert!(!event_loop.shutdown.is_over());
    pass(&mut event_loop, seconds(0.2));
    assert!(event_loop.shutdown.is_over() && event_loop.shutdown.has_grace_expired());
}

fn is_open(event_loop: &mut EventLoop<Echo>, id: ConnectionId) -> bool {
    event_loop.connections.state(id).is_some()
}

/// In a drain there is time for it. A stop does not wait.
#[test]
fn the_rest_of_a_line_is_waited_for_in_a_drain() {
    for completes in [true, false] {
        let mut event_loop = listening();
        let (id, mut other) = add(&mut event_loop);
        other.write_all(b"first\nsec").expect("it is connected");
        turn(&mut event_loop);
        event_loop.drain();
        pass_delay(&mut event_loop);
        pass(&mut event_loop, seconds(1.0));
        assert!(is_open(&mut event_loop, id));
        match completes {
            true => other.write_all(b"ond\n").expect("it is connected"),
            false => event_loop.stop(),
        }
        turn(&mut event_loop);
        let mut received = Vec::new();
        let end = other.read_to_end(&mut received);
        assert!(end.is_ok(), "{end:?}, after {received:?}");
        let due: &[u8] = if completes { b"first!second!" } else { b"first!" };
        assert_eq!(received, due);
    }
}

/// It breaks after it was released: then it was not the drain that closed it.
#[test]
fn a_released_connection_that_breaks_is_reported_as_broken() {
    let mut event_loop = listening();
    let (id, other) = add(&mut event_loop);
    event_loop.drain();
    pass_delay(&mut event_loop);
    pass(&mut event_loop, seconds(0.1));
    event_loop.connections.close(id, Closed::WriteTimeout);
    turn(&mut event_loop);
    assert_eq!(event_loop.app.closed, [(id, Closed::WriteTimeout)]);
    drop(other);
}

#[test]
fn a_loop_that_drains_refuses_every_change_but_of_how_dials_are_secured_alone() {
    let mut event_loop = listening();
    event_loop.drain();
    let tls =
        ClientTls::new("localhost", None, &[], Remedies::default()).expect("it can be set up");
    let of_dials = || Change { client_tls: vec![(TlsId(1), tls.clone())], ..Change::default() };
    let more = Change { limits: Some(Limits::default()), ..of_dials() };
    for change in [Change::default(), more] {
        let refused = event_loop.reconfigure(change).expect_err("it is refused");
        assert_eq!(refused.to_string(), "the loop is draining");
    }
    assert!(!event_loop.connections.shared.security.dials.contains_key(&TlsId(1)));
    event_loop.reconfigure(of_dials()).expect("what is dialled until the end may need it");
    assert!(event_loop.connections.shared.security.dials.contains_key(&TlsId(1)));
    event_loop.stop();
    let refused = event_loop.reconfigure(of_dials()).expect_err("it is refused");
    assert_eq!(refused.to_string(), "the loop is stopping");
}

/// What a signal does, whatever has come before.
#[test]
fn signals_begin_a_drain_end_it_or_change_nothing() {
    use ControlRequest::{Control as Other, Stop, Terminate};
    // No other test of this process uses them.
    use signal_hook::consts::{SIGCONT, SIGIO, SIGURG};
    let drain = || Other(Control::Drain);
    let (term, term_drains) = (Terminate(Termination::Stop), Terminate(Termination::Drain));
    // (draining, stopping, at once)
    let (serves, drains, stops, ends) =
        ((false, false), (true, false), (false, true), (false, false));
    let cases = [
        (vec![drain()], drains),
        (vec![drain(), drain(), term.clone(), term_drains.clone()], drains),
        (vec![drain(), Stop], stops),
        (vec![drain(), term.clone(), Stop, drain(), term_drains.clone()], ends),
        (vec![term.clone(), drain()], stops),
        (vec![term_drains.clone()], drains),
        (vec![term_drains.clone(), term_drains.clone()], drains),
        (vec![Stop, term_drains.clone()], ends),
        (vec![term.clone(), term], ends),
    ];
    assert_ne!(serves, drains);
    for (requests, expected) in cases {
        let mut event_loop = listening();
        event_loop.app.is_busy = true;
        for request in &requests {
            // Each is more than a second after the one before.
            pass(&mut event_loop, seconds(1.1));
            let signal = match request {
                Stop => SIGIO,
                Other(_) => SIGURG,
                Terminate(_) => SIGCONT,
            };
            let request: fn(i32) -> Option<ControlRequest> = match request {
                Terminate(Termination::Drain) => |_| Some(Terminate(Termination::Drain)),
                Terminate(Termination::Stop) => |_| Some(Terminate(Termination::Stop)),
                Stop => |_| Some(Stop),
                Other(_) => |_| Some(Other(Control::Drain)),
            };
            let controls = Controls { signals: vec![signal], request, lifeline: None };
            event_loop.controls = Default::default();
            event_loop.watch_controls(controls).expect("it can be watched");
            signal_hook::low_level::raise(signal).expect("a signal");
            event_loop.controls.note_signals();
            event_loop.handle_timers();
        }
        let shutdown = &event_loop.shutdown;
        let state = (shutdown.is_draining(), shutdown.is_under_way());
        assert_eq!(state, expected, "{requests:?}");
        assert_eq!(shutdown.is_hurried(), expected == ends, "{requests:?}");
    }
}

/// Two requests that are handled together: a drain that SIGTERM follows at once.
#[test]
fn a_drain_and_sigterm_in_one_turn_are_a_drain() {
    use signal_hook::consts::{SIGUSR1, SIGUSR2};
    let request = |signal| match signal {
        SIGUSR2 => Some(ControlRequest::Control(Control::Drain)),
        _ => Some(ControlRequest::Terminate(Termination::Stop)),
    };
    let signals = vec![SIGUSR2, SIGUSR1];
    let mut event_loop = listening();
    let controls = Controls { signals: signals.clone(), request, lifeline: None };
    event_loop.watch_controls(controls).expect("they can be watched");
    for signal in signals.into_iter().rev() {
        signal_hook::low_level::raise(signal).expect("a signal");
    }
    event_loop.controls.note_signals();
    event_loop.handle_timers();
    assert!(event_loop.shutdown.is_draining());
    event_loop.application().commands.push(Command::Stop);
    turn(&mut event_loop);
    assert!(!event_loop.shutdown.is_draining(), "the application may stop it");
}
