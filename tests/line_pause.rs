//! Claim: with `limits.line_pause` a client's unfinished line is answered once nothing more of it arrives, exactly
//! once and in order; without it, and between servers, only an LF or the end of the stream ends a line.

mod common;

use std::time::Duration;

use rustix::process::Signal;

use common::service::{Act, Service, ok};
use common::sockets::wait_until_read;
use common::{LIMIT, ServerProcess, Setup, connect_as};

const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1520023934.918963997";
const AT: &str = "AT AT kiwi +34.068930-118.445127 1520023934.918963997";

/// A server that takes a line for whole after such a pause.
fn server(pause: &str, limits: &str) -> (Setup, ServerProcess) {
    let setup = Setup::alone().any_port();
    let setup = setup.section(&format!("[limits]\nline_pause = {pause:?}\n{limits}"));
    let server = setup.start("Goloman");
    (setup, server)
}

#[test]
fn an_unfinished_line_is_answered_after_the_pause() {
    let (_setup, server) = server("100ms", "");
    for (line, answer) in
        [(IAMAT, AT), ("garbage", "? garbage"), ("WHATSAT x 10 5", "? WHATSAT x 10 5")]
    {
        let mut client = server.client();
        client.send(line);
        assert_eq!(client.line(), answer);
        // The connection goes on, and what comes later is the next line.
        client.send(format!("{line} "));
        let again = if line == IAMAT { AT.to_owned() } else { format!("{answer} ") };
        assert_eq!(client.line(), again);
        assert_eq!(client.ask("more"), "? more");
    }
    let mut client = server.client();
    client.send(IAMAT);
    assert_eq!(client.line(), AT);
    let answer = client.whatsat("kiwi", "10", "2");
    assert_eq!((answer.first.as_str(), answer.results().len()), (AT, 2));
    client.send("WHATSAT kiwi 10 1");
    assert_eq!(client.answer().results().len(), 1);
}

#[test]
fn cr_and_lf_around_a_pause_end_one_line() {
    let (_setup, server) = server("50ms", "");
    let mut client = server.client();
    client.send("one\r");
    assert_eq!(client.line(), "? one");
    client.send("\ntwo\r\n");
    assert_eq!(client.line(), "? two");
    // An LF of its own is a line of its own.
    client.send("three");
    assert_eq!(client.line(), "? three");
    client.send("\nfour\n");
    assert_eq!((client.line(), client.line()), ("? ".to_owned(), "? four".to_owned()));
}

#[test]
fn a_line_whose_rest_comes_in_time_is_not_cut() {
    let (_setup, server) = server("10s", "");
    let mut client = server.client();
    for piece in IAMAT.as_bytes().chunks(7) {
        client.send(piece);
        wait_until_read(&client.stream);
    }
    client.send("\n");
    assert_eq!(client.line(), AT);
}

#[test]
fn a_line_whose_rest_is_in_the_socket_is_not_cut_after_a_suspension() {
    let (_setup, server) = server("2s", "");
    let mut client = server.client();
    let (first, rest) = IAMAT.split_at(20);
    client.send(first);
    wait_until_read(&client.stream);
    server.wait_until_asleep();
    server.hold();
    client.send(format!("{rest}\n"));
    std::thread::sleep(Duration::from_millis(2_500));
    server.signal(Signal::CONT);
    assert_eq!(client.line(), AT);
}

#[test]
fn a_line_after_a_pending_answer_is_answered_after_it() {
    let body = "{\"results\": [], \"status\": \"ZERO_RESULTS\"}";
    let service = Service::good(move |_| vec![Act::Hold, Act::Send(ok(body))]);
    let limits = "\n[limits]\nline_pause = \"50ms\"";
    let (_setup, server) = service.asked_by_goloman("s3cret", limits, &[]);
    let mut client = server.client();
    client.send(IAMAT);
    assert_eq!(client.line(), AT);
    client.send("WHATSAT kiwi 10 20");
    service.wait_for_requests(1);
    client.send("next");
    client.expect_silence(Duration::from_millis(300));
    service.open_gate();
    assert_eq!(client.answer().status(), "ZERO_RESULTS");
    assert_eq!(client.line(), "? next");
}

#[test]
fn the_end_of_the_stream_ends_a_line_once() {
    let (_setup, server) = server("50ms", "");
    for pause in [0, 200] {
        let mut client = server.client();
        client.send(IAMAT);
        std::thread::sleep(Duration::from_millis(pause)); // Before the line's pause is over, or after it.
        client.half_close();
        assert_eq!(client.line(), AT);
        client.expect_end();
    }
}

#[test]
fn a_line_over_the_limit_is_refused_after_the_pause_and_the_connection_closed() {
    let (_setup, server) = server("50ms", "line_bytes = 10");
    let mut client = server.client();
    client.send("exactly 10");
    assert_eq!(client.line(), "? exactly 10");
    client.send("eleven long");
    assert_eq!(client.line(), "? eleven long");
    client.expect_end();
}

#[test]
fn without_the_setting_no_pause_ends_a_line() {
    let setup = Setup::alone().any_port();
    let server = setup.start("Goloman");
    let mut client = server.client();
    client.send("IAMAT kiwi");
    client.expect_silence(Duration::from_millis(500));
    client.send(" x\n");
    assert_eq!(client.line(), "? IAMAT kiwi x");
}

#[test]
fn no_pause_ends_a_line_between_servers() {
    let setup = Setup::star(&["Hands"]).section("[limits]\nline_pause = \"50ms\"").heartbeat("5s");
    let server = setup.start("Goloman");
    let (mut peer, _) = connect_as(&server, "Hands", "00000000000000aa");
    peer.send("MARK 7");
    peer.expect_silence(Duration::from_millis(500));
    peer.send("7\n");
    assert_eq!(peer.line(), "ACK 77");
    let mut peer = server.peer();
    peer.send("garbage");
    assert!(matches!(peer.next(Duration::from_millis(500)), common::Next::Silence));
    assert!(peer.is_closed_within(LIMIT), "it did not say HELLO in time");
}
