//! Claim: a server that drains sends its clients away evenly, the longest silent first, each with all its answers; it
//! ends once its neighbours have everything; and only SIGINT hurries it.

mod common;

use std::time::{Duration, Instant};

use rustix::process::Signal;

use common::certificates::Certificates;
use common::certified_client::CertifiedClient;
use common::herd::processes;
use common::http::get;
use common::process::send_signal;
use common::service::{Act, Service, ok};
use common::talkers::{Talkers, TheEnd};
use common::{Client, Herd, LIMIT, ServerProcess, Setup, raise_descriptor_limit, wait_until};

const IAMAT: &str = "IAMAT a +1.0+2.0 10";
const AT: &str = "AT AT a +1.0+2.0 10";

// Clients.

/// The short form of what `just drain` does with 10,000.
#[test]
fn clients_are_closed_evenly_with_all_their_answers_and_sigterm_changes_nothing() {
    drain_a_crowd(500, "1s", "4s", Duration::from_secs(3));
}

#[test]
#[ignore = "it takes half a minute, and 10,000 descriptors: just drain"]
fn ten_thousand_clients_are_closed_evenly_with_all_their_answers() {
    drain_a_crowd(10_000, "10s", "30s", Duration::from_secs(20));
}

fn drain_a_crowd(count: usize, delay: &str, duration: &str, closing: Duration) {
    raise_descriptor_limit();
    let setup = with_stop(Setup::new(&[("Goloman", &["Hands"]), ("Hands", &[])]), delay, duration);
    let setup = setup.section("[log]\nformat = \"json\"");
    let (mut goloman, hands) = (setup.start("Goloman"), setup.start("Hands"));
    goloman.wait_for_log("The link to Hands is up");
    // Every other one talks until its end.
    let pause = |number| (number % 2 == 0).then_some(Duration::from_millis(200));
    let mut talkers = Talkers::connect(count, goloman.clients, pause);
    let begin = Instant::now();
    goloman.signal(Signal::USR2);
    goloman.wait_for_log("Goloman drains");
    talkers.run_for(Duration::from_secs(1).saturating_sub(begin.elapsed()));
    goloman.signal(Signal::TERM);
    talkers.run("all have ended", |talkers| talkers.ended() == count);
    assert_eq!(goloman.wait().code(), Some(0));
    let took = begin.elapsed();
    assert!(talkers.all.iter().all(|one| one.end == Some(TheEnd::Fin)), "a clean end");
    // One line of a client may cross its end on the way: TCP has no means against that. They are few.
    let unanswered = talkers.unanswered();
    assert!(unanswered <= count as u64 / 100, "{unanswered} lines were not answered, in {took:?}");
    let log = goloman.log();
    let said = |text: &str| log.lines().find(|record| record.contains(text));
    let drained = said("has drained").unwrap_or_default();
    assert!(drained.contains(&format!("{count} clients were closed.")), "{drained}");
    assert_eq!(said("before all was answered"), None);
    assert_even(&closings(&log), count, closing);
    assert_hands_knows(&hands, &talkers);
}

/// The neighbour knows the last line of each client.
fn assert_hands_knows(hands: &ServerProcess, talkers: &Talkers) {
    let mut client = hands.client();
    for (number, talker) in talkers.all.iter().enumerate().step_by(50) {
        let told = format!("AT AT {}", talker.told(talker.answered));
        let answer = client.whatsat(&format!("talker{number}"), "0", "0").first;
        // A line that crossed the end may be known as well.
        assert!(answer == told || talker.sent > talker.answered, "{answer}, and not {told}");
    }
}

/// When connections were closed, in seconds of a day, by the server's own clock: however late this test is, and however
/// busy the machine.
fn closings(log: &str) -> Vec<f64> {
    let times = log.lines().filter(|line| line.contains("is disconnected")).map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let time = record["time"].as_str().expect("a time").to_owned();
        let of = |range: std::ops::Range<usize>| time[range].parse::<f64>().expect("a number");
        of(11..13) * 3_600.0 + of(14..16) * 60.0 + of(17..26)
    });
    times.collect()
}

fn assert_even(closings: &[f64], count: usize, over: Duration) {
    assert_eq!(closings.len(), count);
    let first = closings[0];
    let seconds = over.as_secs_f64();
    // A server that is held up makes up for 0.3 s at once; the rest is closed at a higher rate then, for which this
    // allows. On a busy machine it may be held up for longer: nothing is closed in that time.
    let gaps = closings.windows(2).map(|pair| pair[1] - pair[0]);
    let held_up: f64 = gaps.filter(|gap| *gap > 0.2).sum();
    let most = 1.6 * count as f64 / (seconds - held_up).max(0.5);
    for (place, begin) in closings.iter().enumerate() {
        let window = closings[place..].iter().take_while(|time| **time < begin + 0.5).count();
        assert!(
            window as f64 <= most,
            "{window} of {count} within 0.5 s, after {} s",
            begin - first
        );
    }
    assert!(closings[count - 1] - first >= 0.6 * seconds, "{closings:?}");
}

fn with_stop(setup: Setup, delay: &str, duration: &str) -> Setup {
    setup
        .heartbeat("1s")
        .section(&format!("[stop]\ndrain_delay = \"{delay}\"\ndrain_duration = \"{duration}\""))
}

#[test]
fn the_longest_silent_client_is_closed_first() {
    let setup = with_stop(Setup::alone(), "1ms", "60s");
    let mut server = setup.start("Goloman");
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    // By silence: the one that spoke first comes first.
    let order = [3, 0, 7, 5, 1, 6, 2, 4];
    for place in order {
        assert_eq!(clients[place].ask(IAMAT), AT);
        std::thread::sleep(Duration::from_millis(2));
    }
    server.signal(Signal::USR2);
    let ports: Vec<u16> = order.map(|place| port_of(&clients[place])).to_vec();
    // None is closed here: each lingers for a second, so the server closes them in the order in which it let them go.
    assert_eq!(server.wait().code(), Some(0));
    clients.iter_mut().for_each(Client::expect_end);
    let log = server.log();
    let closed = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("Client 127.0.0.1:")?;
        rest.strip_suffix(" is disconnected.")?.parse::<u16>().ok()
    });
    assert_eq!(closed.collect::<Vec<_>>(), ports, "{log}");
}

#[test]
fn with_few_clients_a_drain_ends_early_and_with_none_after_its_delay() {
    let setup = with_stop(Setup::alone(), "700ms", "60s").any_port();
    for count in [3, 0] {
        let mut server = setup.start("Goloman");
        let mut clients: Vec<Client> = (0..count).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.ask(IAMAT), AT));
        let begin = Instant::now();
        server.signal(Signal::USR2);
        clients.iter_mut().for_each(Client::expect_end);
        drop(clients);
        assert_eq!(server.wait().code(), Some(0));
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(700), "{took:?}: load balancers learn late");
        assert!(took < LIMIT, "{took:?}");
        server.wait_for_log(&format!("{count} clients were closed."));
    }
}

#[test]
fn new_clients_are_served_until_the_delay_is_over_and_then_refused() {
    let setup = with_stop(Setup::alone(), "1s", "60s");
    let mut server = setup.start_with("Goloman", &["--admin", "0"]);
    wait_until(LIMIT, "it is ready", || get(server.admin(), "/readyz").status == 200);
    let mut first = server.client();
    assert_eq!(first.ask(IAMAT), AT);
    server.signal(Signal::USR2);
    server.wait_for_log("Goloman drains: 1 client is connected");
    let ready = get(server.admin(), "/readyz");
    assert_eq!((ready.status, ready.json()["checks"]["draining"].as_bool()), (503, Some(true)));
    let mut second = server.client();
    assert_eq!(second.ask(IAMAT), AT, "the listener is open");
    // Something that the loop waits for keeps the drain going, so that the refusal can be seen.
    let mut begun = server.client();
    begun.send("IAMAT half");
    wait_until(LIMIT, "it refuses clients", || Client::try_connect(server.clients).is_err());
    // An operator sees the drain to its end, also on a new connection.
    let metrics = get(server.admin(), "/metrics").text();
    for line in ["herd_draining 1", "herd_ready 0"] {
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    }
    first.expect_end();
    second.expect_end();
    drop((first, second));
    let drained = "herd_connections_closed_total{kind=\"client\",reason=\"drained\"} 2";
    wait_until(LIMIT, "two are drained", || {
        get(server.admin(), "/metrics").text().lines().any(|line| line == drained)
    });
    let ready = get(server.admin(), "/readyz");
    assert_eq!(ready.json()["checks"]["listeners"].as_bool(), Some(false));
    assert_eq!(get(server.admin(), "/livez").status, 200);
    begun.send(" +1.0+2.0 10\n");
    assert_eq!(begun.line(), "AT AT half +1.0+2.0 10", "the rest of a line is waited for");
    begun.expect_end();
    drop(begun);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_client_that_waits_for_places_gets_its_answer_before_its_end() {
    let body = "{\"results\": [], \"status\": \"OK\"}";
    let service = Service::good(move |_| vec![Act::Hold, Act::Send(ok(body))]);
    let stop = "[stop]\ndrain_delay = \"1ms\"\ndrain_duration = \"60s\"";
    let (_setup, mut server) = service.asked_by_goloman("sesame", stop, &[]);
    let mut client = server.client();
    assert_eq!(client.ask(IAMAT), AT);
    client.send("WHATSAT a 10 1\nIAMAT b +1.0+2.0 10\n");
    service.wait_for_requests(1);
    let mut idle = server.client();
    assert_eq!(idle.ask("IAMAT c +1.0+2.0 10"), "AT AT c +1.0+2.0 10");
    server.signal(Signal::USR2);
    idle.expect_end();
    client.expect_silence(Duration::from_millis(300));
    service.open_gate();
    assert_eq!(client.answer().first, AT);
    assert_eq!(client.line(), "AT AT b +1.0+2.0 10", "and that to the line behind it");
    client.expect_end();
    drop((client, idle));
    assert_eq!(server.wait().code(), Some(0));
}

/// `rest` fails the test where TLS ends without `close_notify`.
#[test]
fn clients_over_tls_get_their_answers_and_close_notify() {
    let certificates = Certificates::new(&["Goloman"]);
    let tls = certificates.section()
        + "[tls.clients]\naccept = \"both\"\n\n\
           [tls.neighbours]\naccept = \"plain\"\ndial = \"plain\"\n";
    let setup = with_stop(Setup::alone(), "1ms", "60s").section(&tls).any_port();
    let mut server = setup.start("Goloman");
    let mut clients: Vec<CertifiedClient> =
        (0..5).map(|_| CertifiedClient::connect(server.clients, &certificates, None)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask(IAMAT), AT));
    server.signal(Signal::USR2);
    clients.iter_mut().for_each(|client| assert_eq!(client.rest(), ""));
    drop(clients);
    assert_eq!(server.wait().code(), Some(0));
    server.wait_for_log("5 clients were closed.");
}

#[test]
fn clients_in_the_backlog_are_answered() {
    let setup = with_stop(Setup::alone(), "1ms", "3s");
    let mut server = setup.start("Goloman");
    server.hold();
    let mut clients: Vec<Client> = (0..100).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send(format!("{IAMAT}\n")));
    server.signal(Signal::USR2);
    server.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.line(), AT);
    }
    clients.iter_mut().for_each(Client::expect_end);
    drop(clients);
    assert_eq!(server.wait().code(), Some(0));
    server.wait_for_log("100 clients were closed.");
}

// Signals.

#[test]
fn a_second_sigusr2_and_sigterm_change_nothing_and_sigint_makes_it_an_ordinary_stop() {
    let setup = with_stop(Setup::alone(), "60s", "120s").any_port();
    let mut server = setup.start("Goloman");
    let mut client = server.client();
    for signal in [Signal::USR2, Signal::USR2, Signal::TERM, Signal::USR2, Signal::TERM] {
        server.signal(signal);
        std::thread::sleep(Duration::from_millis(300)); // Together more than a second.
        assert_eq!(client.ask(IAMAT), AT);
    }
    assert_eq!(server.log().matches("Goloman drains").count(), 1, "{}", server.log());
    server.signal(Signal::INT);
    client.expect_end();
    assert_eq!(server.wait().code(), Some(0));
    server.wait_for_log("Goloman has drained for");
    server.wait_for_log("Goloman has stopped.");
}

#[test]
fn sigusr2_in_a_stop_changes_nothing() {
    let setup = with_stop(Setup::star(&["Hands"]), "1ms", "60s");
    let hands = setup.play("Hands");
    let mut server = setup.start("Goloman");
    let mut link = hands.greet_empty("00000000000000bb");
    link.until_mark();
    assert_eq!(server.client().ask(IAMAT), AT);
    server.signal(Signal::TERM);
    server.wait_for_log("Goloman stops.");
    server.signal(Signal::USR2);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.log().contains("drain"), "{}", server.log());
}

#[test]
fn with_on_sigterm_a_server_drains_by_sigterm_and_a_reload_changes_that() {
    let stop = |what: &str| {
        format!("[stop]\non_sigterm = \"{what}\"\ndrain_delay = \"60s\"\ndrain_duration = \"120s\"")
    };
    for (at_the_start, reloaded) in [("drain", None), ("stop", Some("drain"))] {
        let setup = Setup::alone().section("[places]\nprovider = \"offline\"");
        let setup = setup.section(&stop(at_the_start));
        let mut server = setup.start("Goloman");
        if let Some(what) = reloaded {
            let file = setup.config_file("Goloman");
            let text = std::fs::read_to_string(&file).expect("it was written");
            let text = text.replace(&stop(at_the_start), &stop(what));
            std::fs::write(&file, text).expect("it can be written");
            server.signal(Signal::HUP);
            server.wait_for_log("configuration reloaded: 1 change");
        }
        let mut client = server.client();
        server.signal(Signal::TERM);
        server.wait_for_log("Goloman drains");
        assert_eq!(client.ask(IAMAT), AT);
        server.signal(Signal::INT);
        client.expect_end();
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_signal_to_drain_during_the_start_is_handled_after_it() {
    let setup = with_stop(Setup::alone(), "1ms", "60s").any_port();
    let fifo = setup.folder.path().join("fifo");
    let mut mkfifo = std::process::Command::new("mkfifo");
    assert!(mkfifo.arg(&fifo).status().expect("it is in coreutils").success());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--server", "Goloman", "--config"]).arg(&fifo);
    command.arg("--log-dir").arg(setup.folder.path());
    let mut child = common::process::Running(command.spawn().expect("it runs"));
    // Once this is open the process waits for its configuration.
    let mut config = std::fs::OpenOptions::new().write(true).open(&fifo).expect("a FIFO");
    send_signal(child.0.id(), Signal::USR2);
    std::io::Write::write_all(&mut config, setup.toml("Goloman").as_bytes()).expect("it is read");
    drop(config);
    assert_eq!(common::process::status_of(&mut child.0), Some(0));
    let log = std::fs::read_to_string(setup.log_file("Goloman")).expect("a log");
    assert!(log.contains("Goloman drains: 0 clients are connected"), "{log}");
}

#[test]
fn a_reload_is_refused_in_a_drain_and_the_log_is_reopened_all_the_same() {
    let setup = with_stop(Setup::alone(), "60s", "120s");
    let server = setup.start("Goloman");
    server.signal(Signal::USR2);
    server.wait_for_log("Goloman drains");
    server.signal(Signal::HUP);
    server.wait_for_log("configuration not reloaded, nothing has changed: the server is draining");
    let new_log = setup.move_log_away("Goloman");
    server.signal(Signal::HUP);
    wait_until(LIMIT, "a new log is there", || new_log.exists());
    server.assert_serves();
}

// The end.

#[test]
fn a_client_that_never_reads_is_cut_off_once_the_time_is_over() {
    let setup = with_stop(Setup::alone(), "1ms", "1500ms");
    let setup = setup.section("[limits]\nwrite_timeout = \"60s\"");
    let mut server = setup.start_with("Goloman", &["--admin", "0"]);
    let mut deaf = server.client();
    assert_eq!(deaf.ask(IAMAT), AT);
    deaf.stream.set_nonblocking(true).expect("it does not block");
    // Until the answers fill every buffer between the two: the server has looked several times, and can do nothing.
    let lines = "? an invalid line of some length, which is sent back\n".repeat(1_000);
    let mut full = 0;
    wait_until(LIMIT, "every buffer is full", || {
        let is_refused = deaf.try_send(&lines).is_err();
        let seen = get(server.admin(), "/connz?kind=client").json();
        let is_full = is_refused && seen["connections"][0]["paused"] == "output_full";
        full = if is_full { full + 1 } else { 0 };
        full == 10
    });
    let begin = Instant::now();
    server.signal(Signal::USR2);
    assert_eq!(server.wait().code(), Some(0));
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(6_500),
        "{took:?}: the drain, and the grace time of a stop"
    );
    server.wait_for_log("0 clients were closed; 1 client is connected.");
    server.wait_for_log(
        "Goloman stopped before all was answered or acknowledged: after 6 s 1 client is still",
    );
}

#[test]
fn a_drain_waits_until_the_last_mark_is_acknowledged_but_not_for_long() {
    let setup = with_stop(Setup::star(&["Hands"]), "1ms", "60s");
    for acknowledges in [true, false] {
        let hands = setup.play("Hands");
        let mut server = setup.start("Goloman");
        let mut link = hands.greet_empty("00000000000000bb");
        link.until_mark();
        let mut client = server.client();
        assert_eq!(client.ask(IAMAT), AT);
        server.signal(Signal::USR2);
        client.expect_end();
        drop(client);
        let (updates, mark) = link.until_mark_silently();
        assert_eq!(updates.len(), 1, "{updates:?}");
        match acknowledges {
            true => {
                server.wait_for_log("Client");
                assert!(server.is_running());
                link.ack(mark);
            }
            // A neighbour that lives, and falls behind.
            false => wait_until(LIMIT, "the server ends", || {
                std::thread::sleep(Duration::from_millis(100));
                _ = link.client.try_send(format!("ACK {}\n", mark - 1)); // It may have ended.
                !server.is_running()
            }),
        }
        assert_eq!(server.wait().code(), Some(0));
        let log = server.log();
        assert_eq!(log.contains("not all updates are acknowledged"), !acknowledges, "{log}");
    }
}

// Several loops, several servers.

#[test]
fn all_loops_of_a_server_drain_together() {
    let setup = with_stop(Setup::alone(), "200ms", "3s").top("loops = 3");
    let mut server = setup.start("Goloman");
    let mut talkers = Talkers::connect(90, server.clients, |_| Some(Duration::from_millis(20)));
    server.signal(Signal::USR2);
    talkers.run("all have ended", |talkers| talkers.ended() == 90);
    assert!(talkers.all.iter().all(|one| one.end == Some(TheEnd::Fin)), "a clean end");
    assert_eq!(server.wait().code(), Some(0));
    for name in ["Goloman", "Goloman/2", "Goloman/3"] {
        server.wait_for_log(&format!("{name} has drained for"));
    }
    assert!(!server.log().contains("WARNING"), "{}", server.log());
}

/// The first loop has nothing left to wait for but the second one.
#[test]
fn a_loop_without_clients_waits_for_the_clients_of_another_one() {
    let setup = with_stop(Setup::alone(), "1ms", "60s").top("loops = 2");
    let mut server = setup.start_with("Goloman", &["--admin", "0"]);
    let mut clients: Vec<Client> = Vec::new();
    // The kernel chooses the loop.
    let of_second = |client: &Client| {
        let port = port_of(client);
        let all = get(server.admin(), "/connz?kind=client&loop=2&limit=1000").text();
        all.contains(&format!("127.0.0.1:{port}\""))
    };
    while clients.len() < 40 {
        let mut client = server.client();
        assert_eq!(client.ask(IAMAT), AT);
        if of_second(&client) {
            clients.push(client);
        }
    }
    let begin = Instant::now();
    server.signal(Signal::USR2);
    clients.iter_mut().for_each(Client::expect_end);
    let took = begin.elapsed();
    drop(clients);
    assert_eq!(server.wait().code(), Some(0));
    // Ten in each second, and a heartbeat is one second.
    assert!(took > Duration::from_secs(3), "{took:?}");
    server.wait_for_log("s: 40 clients were closed.");
}

#[test]
fn a_herd_drains_as_a_whole_and_restarts_none() {
    let setup = with_stop(Herd::small_setup(), "500ms", "60s");
    let command = Herd::command(&setup);
    let mut herd = Herd::spawn(setup, command);
    let mut clients: Vec<Client> =
        ["Goloman", "Hands"].map(|name| Client::connect(herd.setup.clients_address(name))).into();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask(IAMAT), AT));
    herd.signal(Signal::USR2);
    herd.wait_until_said("the herd drains");
    herd.signal(Signal::TERM); // It changes nothing.
    assert_eq!(clients[0].ask(IAMAT), AT);
    clients.iter_mut().for_each(Client::expect_end);
    drop(clients);
    assert_eq!(herd.wait().code(), Some(0));
    assert!(!herd.said().contains("restarting"), "{}", herd.said());
    assert_eq!(herd.left(), [0; 0]);
    for name in ["Goloman", "Hands"] {
        let log = std::fs::read_to_string(herd.setup.log_file(name)).expect("a log");
        assert!(log.contains("1 client was closed."), "{log}");
    }
}

#[test]
fn sigint_turns_the_drain_of_a_herd_into_a_stop_and_sigterm_may_begin_it() {
    let stop = "[stop]\non_sigterm = \"drain\"\ndrain_delay = \"60s\"\ndrain_duration = \"120s\"";
    let setup = Herd::small_setup().section(stop);
    let command = Herd::command(&setup);
    let mut herd = Herd::spawn(setup, command);
    let mut client = Client::connect(herd.setup.clients_address("Hands"));
    herd.signal(Signal::TERM);
    herd.wait_until_said("the herd drains");
    herd.signal(Signal::HUP);
    herd.wait_until_said("configuration not reloaded: the herd is draining");
    assert_eq!(client.ask(IAMAT), AT);
    herd.signal(Signal::INT);
    client.expect_end();
    assert_eq!(herd.wait().code(), Some(0));
    assert_eq!(herd.left(), [0; 0]);
}

#[test]
fn after_the_drain_of_a_herd_the_first_sigterm_is_no_second_one() {
    // With its own Places server, which is stopped last. That cannot stop while it is held.
    let setup = with_stop(Setup::new(&[("Goloman", &[])]), "100ms", "60s");
    let command = Herd::command(&setup);
    let mut herd = Herd::spawn(setup, command);
    let is_places = |pid: u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|&byte| byte == 0).any(|word| word == b"--places-server")
    };
    let ours = processes().into_iter().filter(|process| process.parent == herd.child.id());
    let places = ours.map(|process| process.pid).find(|&pid| is_places(pid));
    let places = places.expect("a Places server runs");
    send_signal(places, Signal::STOP);
    herd.signal(Signal::USR2);
    wait_until(LIMIT, "the server has drained", || herd.children().is_empty());
    // From now on the herd stops; a second signal would have to be a second later.
    std::thread::sleep(Duration::from_millis(1_500));
    herd.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    send_signal(places, Signal::CONT);
    assert_eq!(herd.wait().code(), Some(0), "{}", herd.said());
}

fn port_of(client: &Client) -> u16 {
    client.stream.local_addr().expect("it is connected").port()
}
