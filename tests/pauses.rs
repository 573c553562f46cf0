//! Claim: a process that was suspended, or had too much to do, judges no deadline before it has served what arrived
//! in time: lines, acknowledgements, HELLOs, room for output and answers of the Places service.

mod common;

use std::io::Read;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use common::service::{Act, Service, ok};
use common::sockets::wait_until_read;
use common::{Client, LIMIT, ServerProcess, Setup, connect_as, raise_descriptor_limit};

/// One batch of events holds 1,024 (`EVENTS_PER_TURN`).
#[test]
fn lines_completed_in_time_are_answered_after_a_suspension_although_no_batch_holds_all() {
    raise_descriptor_limit();
    let patience = Duration::from_secs(4);
    let setup = Setup::alone().section("[limits]\nline_timeout = \"4s\"").any_port();
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    let mut clients: Vec<Client> = (0..1_500).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("nonsense"), "? nonsense");
    }
    for client in &mut clients {
        client.send("IAMAT a +1.0");
    }
    let begun = Instant::now();
    wait_until_read(&clients.last().expect("there are some").stream);
    let pause = Pause::begin(&server);
    for client in &mut clients {
        client.send("-2.0 1\n");
    }
    assert!(begun.elapsed() < patience, "this machine is too slow for this test");
    pause.end_after(patience);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), "AT AT a +1.0-2.0 1", "client {number}");
    }
    assert!(!server.log().contains("not completed"), "{}", server.log());
}

#[test]
fn a_deadline_missed_during_a_suspension_is_judged_after_it() {
    let setup = Setup::alone().section("[limits]\nline_timeout = \"1s\"");
    let server = setup.start("Goloman");
    let mut late = server.client();
    late.send("IAMAT a +1.0");
    wait_until_read(&late.stream);
    Pause::begin(&server).end_after(Duration::from_secs(1));
    assert!(late.is_closed_within(LIMIT));
    server.wait_for_log("line not completed within ");
}

/// The answer takes several reads: a record of TLS is a read.
#[test]
fn a_places_answer_in_the_socket_is_delivered_after_a_suspension() {
    let places = vec![format!("{{\"name\": \"{}\"}}", "x".repeat(2_000)); 20].join(", ");
    let body = format!("{{\"results\": [{places}], \"status\": \"OK\"}}");
    let service = Service::good(move |_| vec![Act::Hold, Act::Send(ok(&body))]);
    let (_setup, server) = service.asked_by_goloman("s3cret", "timeout = \"2s\"", &[]);
    let mut client = server.client();
    client.ask("IAMAT kiwi +34.068930-118.445127 1");
    client.send("WHATSAT kiwi 10 20\n");
    service.wait_for_requests(1);
    let pause = Pause::begin(&server);
    service.open_gate();
    pause.end_after(Duration::from_secs(2));
    let answer = client.answer();
    assert_eq!(answer.results().len(), 20, "{}", answer.body);
}

#[test]
fn a_neighbour_that_sent_during_a_suspension_is_not_declared_dead() {
    let setup = Setup::star(&["Hands"]).heartbeat("1s");
    let hands = setup.play("Hands");
    let server = setup.start("Goloman");
    let mut link = hands.greet_empty("00000000000000aa");
    let (mut peer, _) = connect_as(&server, "Hands", "00000000000000aa");
    link.until_mark();
    let mut client = server.client();
    assert_eq!(client.ask("IAMAT a +1.0-2.0 1"), "AT AT a +1.0-2.0 1");
    let (updates, mark) = link.until_mark_silently();
    assert_eq!(updates.len(), 1);
    let pause = Pause::begin(&server);
    link.ack(mark);
    peer.send("MARK 1\n");
    pause.end_after(Duration::from_secs(4)); // Three heartbeats, and one more.
    assert_eq!(peer.line(), "ACK 1");
    // A lost link is closed; another one goes on with its next MARK.
    link.until_mark();
    let log = server.log();
    assert!(!log.contains(" lost: ") && !log.contains("sent nothing for"), "{log}");
}

#[test]
fn a_hello_sent_during_a_suspension_is_answered() {
    let setup = Setup::star(&["Hands"]).heartbeat("1s");
    let server = setup.start("Goloman");
    let mut peer = server.peer();
    server.wait_for_log("is connected, not yet identified");
    let pause = Pause::begin(&server);
    peer.send("HELLO herd/1 Hands 00000000000000aa\n");
    pause.end_after(Duration::from_secs(1));
    assert!(peer.line().starts_with("RESUME "), "it had a heartbeat's time to say it");
}

#[test]
fn a_client_that_read_during_a_suspension_does_not_time_out() {
    let setup = Setup::alone().section("[limits]\nwrite_timeout = \"2s\"\noutput_bytes = 65536");
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    let mut client = server.client();
    let mut writer = client.stream.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        // More than the kernel's buffers hold: the server waits for room.
        scope.spawn(move || {
            let lines = format!("{}\n", "x".repeat(4_000)).repeat(5_000);
            _ = std::io::Write::write_all(&mut writer, lines.as_bytes());
            _ = writer.shutdown(Shutdown::Write);
        });
        let moved = |client: &Client| {
            let mut bytes = [0; 1];
            client.stream.peek(&mut bytes).is_ok_and(|count| count == 1)
        };
        assert!(moved(&client), "answers come");
        std::thread::sleep(Duration::from_millis(500)); // Until nothing moves any more.
        let pause = Pause::begin(&server);
        let mut room = vec![0; 1 << 20];
        client.stream.read_exact(&mut room).expect("a megabyte is there");
        pause.end_after(Duration::from_secs(2));
        let rest = client.rest().len();
        assert_eq!(room.len() + rest, 5_000 * 4_003, "every answer came");
    });
}

/// A server that stands still for a while.
struct Pause<'a> {
    server: &'a ServerProcess,
    begin: Instant,
}

impl Pause<'_> {
    fn begin(server: &ServerProcess) -> Pause<'_> {
        server.wait_until_asleep(); // so that it is its wait that is interrupted
        server.hold();
        Pause { server, begin: Instant::now() }
    }

    /// Lets it go on once a deadline of this length has passed during it.
    fn end_after(self, deadline: Duration) {
        let end = deadline + Duration::from_millis(200);
        std::thread::sleep(end.saturating_sub(self.begin.elapsed()));
        self.server.signal(Signal::CONT);
    }
}
