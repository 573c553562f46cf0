//! Claim: the admin listener answers operators within its bounds, refuses what it should not answer, and an attack on
//! it costs the clients nothing.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::http::{Http, get};
use common::neighbour::connect_as;
use common::ports::{Port, reserve};
use common::{Herd, LIMIT, Next, ServerProcess, Setup, wait_until};
use herd_mio::application::{
    Application, Command, ConnectionId, Due, Io, Next as Goes, Opened, Origin,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::limits::{ADMIN_HEAD_BYTES, ADMIN_HEAD_FIELDS, ADMIN_HEAD_TIMEOUT, ADMIN_SESSIONS};
use herd_mio::protocol::Epoch;
use herd_mio::server::{ADMIN, Server, ServerSetup, Session};
use rustix::process::Signal;
use serde_json::Value;

/// Goloman alone, with an admin listener.
fn alone() -> (Setup, ServerProcess) {
    let setup = Setup::alone();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    (setup, server)
}

const PATHS: [&str; 8] =
    ["/livez", "/readyz", "/healthz", "/metrics", "/varz", "/connz", "/linksz", "/debug/turns"];

#[test]
fn each_path_has_the_fixed_fields_an_exact_length_and_the_same_head_for_head() {
    let (_setup, server) = alone();
    let mut http = Http::connect(server.admin());
    for path in PATHS {
        let response = http.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(response.field(name), Some(value), "{path}");
        }
        assert_eq!(response.field("access-control-allow-origin"), None);
        let kind =
            if path == "/metrics" { "text/plain; version=0.0.4" } else { "application/json" };
        let found = response.field("content-type").expect("a type");
        assert!(found.starts_with(kind), "{path}: {found}");
        http.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let head = http.response_to("HEAD").expect("a response");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.field("content-type"), Some(found));
        let length: usize =
            head.field("content-length").and_then(|it| it.parse().ok()).expect("a length");
        assert!(length > 0, "that of the body which a GET brings");
    }
}

/// Requests with their status, words of the body, and whether the connection goes on.
#[test]
fn a_request_that_is_not_answered_is_told_why() {
    let (_setup, server) = alone();
    let head = |first: &str, fields: &str| format!("{first}\r\nHost: localhost\r\n{fields}\r\n");
    let get = |fields: &str| head("GET /livez HTTP/1.1", fields);
    let page = |fields: &str| head("GET / HTTP/1.1", fields);
    let other = |host: &str| format!("GET /livez HTTP/1.1\r\n{host}\r\n");
    let long = |bytes| format!("x: {}\r\n", "y".repeat(bytes));
    let room = ADMIN_HEAD_BYTES - get(&long(0)).len();
    let many = |count: usize| "x: y\r\n".repeat(count - 1);
    let open = [
        (get(""), 200, "ok"),
        (get("Content-Length: 0\r\n"), 200, "ok"),
        (get(&long(room)), 200, "ok"),
        (get(&many(ADMIN_HEAD_FIELDS)), 200, "ok"),
        (get("Sec-Fetch-Site: same-origin\r\n"), 200, "ok"),
        (other("host: [::1]:80\r\n"), 200, "ok"),
        (other("Host: 10.1.2.3:32138\r\n"), 200, "ok"),
        (head("POST /livez HTTP/1.1", ""), 405, "only GET and HEAD"),
        (head("DELETE /livez HTTP/1.1", ""), 405, "only GET and HEAD"),
        (head("OPTIONS * HTTP/1.1", ""), 405, "only GET and HEAD"),
        (head("get /livez HTTP/1.1", ""), 405, "only GET and HEAD"),
        (head("GET /page HTTP/1.1", ""), 404, "known paths: /, /livez,"),
        (head("GET /livez/ HTTP/1.1", ""), 404, "known paths"),
        (head("GET //livez HTTP/1.1", ""), 404, "known paths"),
        (head("GET /%6civez HTTP/1.1", ""), 404, "known paths"),
        (head("GET http://localhost/livez HTTP/1.1", ""), 400, "the target must be a path"),
        (head("GET http://evil.example/livez HTTP/1.1", ""), 400, "the target must be a path"),
        (head("GET /livez?a=1 HTTP/1.1", ""), 400, "/livez has no parameter \"a\""),
        (head("GET /livez?a HTTP/1.1", ""), 400, "the parameter \"a\" has no value"),
        (other("Host: evil.example\r\n"), 421, "[admin] hosts"),
        (other("Host: 127.0.0.1.evil.example\r\n"), 421, "[admin] hosts"),
        (get("Sec-Fetch-Site: cross-site\r\n"), 403, "other sites"),
        (get("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: document\r\n"), 403, "other sites"),
        (page("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: document\r\n"), 200, "<title>Goloman"),
        (page("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: iframe\r\n"), 403, "other sites"),
        (page("Sec-Fetch-Site: cross-site\r\n"), 403, "other sites"),
    ];
    for (request, status, words) in &open {
        let mut http = Http::connect(server.admin());
        http.send(request);
        let response = http.response().expect("a response");
        assert_eq!(response.status, *status, "{request:?}: {}", response.text());
        assert!(response.text().contains(words), "{request:?}: {}", response.text());
        assert_eq!(response.field("cache-control"), Some("no-store"));
        let allow = (*status == 405).then_some("GET, HEAD");
        assert_eq!(response.field("allow"), allow, "{request:?}");
        assert_eq!(http.get("/livez").status, 200, "it goes on after {request:?}");
    }
    let closed = [
        (get("Content-Length: 5\r\n"), 413, "a body"),
        (get("Transfer-Encoding: chunked\r\n"), 413, "a body"),
        (head("POST /livez HTTP/1.1", "Content-Length: 8388608\r\n"), 413, "a body"),
        (get("Content-Length: 0\r\nContent-Length: 5\r\n"), 400, "two different Content-Lengths"),
        (get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, "both"),
        (get("Transfer-Encoding: xchunked\r\n"), 400, "Transfer-Encoding"),
        (get("Transfer-Encoding: gzip, chunked\r\n"), 501, "other than \"chunked\""),
        (get("Content-Length: +5\r\n"), 400, "not a number"),
        (get("x : y\r\n"), 400, "malformed field"),
        (get("x: y\r\n folded\r\n"), 400, "malformed field"),
        (get("x: y\n"), 400, "line feed"),
        (get("Host: localhost\r\n"), 400, "one Host"),
        (other(""), 400, "one Host"),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), 400, "one Host"),
        (head("GET /livez HTTP/2.0", ""), 505, "not HTTP/1.1"),
        (get(&long(room + 1)), 431, "over 8192 bytes or 64 fields"),
        (get(&many(ADMIN_HEAD_FIELDS + 1)), 431, "over 8192 bytes or 64 fields"),
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), 400, "not HTTP/1.1"),
        ("IAMAT kiwi +1.0+2.0 10\r\n\r\n".to_owned(), 400, "not HTTP/1.1"),
    ];
    for (request, status, words) in &closed {
        let mut http = Http::connect(server.admin());
        // What follows must not be taken for a second request.
        http.send(format!("{request}GET /varz HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let response = http.response().expect("a response");
        assert_eq!(response.status, *status, "{request:?}: {}", response.text());
        assert!(response.text().contains(words), "{request:?}: {}", response.text());
        assert_eq!(response.field("connection"), Some("close"), "{request:?}");
        assert!(http.ends(), "after {request:?}");
    }
    server.assert_serves();
}

#[test]
fn parameters_have_their_bounds() {
    let (_setup, server) = alone();
    let mut http = Http::connect(server.admin());
    for (target, words) in [
        ("/connz?limit=1e9", "limit must be a whole number from 1 to 1024, not \"1e9\""),
        ("/connz?limit=0", "from 1 to 1024"),
        ("/connz?limit=1025", "from 1 to 1024"),
        ("/connz?limit=", "from 1 to 1024"),
        ("/connz?limit=+5", "from 1 to 1024"),
        ("/connz?limit=99999999999999999999999", "from 1 to 1024"),
        ("/connz?offset=-1", "offset must be a whole number from 0 to"),
        ("/connz?offset=18446744073709551616", "offset must be a whole number from 0 to"),
        ("/connz?sort=name", "sort must be one of id, idle, bytes_in, bytes_out, pending"),
        (
            "/connz?kind=nats",
            "kind must be one of client, link_in, link_out, places, admin, engine, loop",
        ),
        ("/connz?loop=2", "loop must be a whole number from 1 to 1"),
        ("/connz?limit=1&limit=2", "more than once"),
        ("/connz?<script>=1", "/connz has no parameter \"<script>\""),
        ("/debug/turns?last=4097", "last must be a whole number from 1 to 4096"),
        ("/healthz?strict=true", "strict must be one of 0, 1"),
    ] {
        let response = http.get(target);
        assert_eq!(response.status, 400, "{target}: {}", response.text());
        assert!(response.text().contains(words), "{target}: {}", response.text());
        assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"));
    }
    for target in [
        "/connz?limit=1024&offset=10000000&sort=pending&kind=client&loop=1",
        "/debug/turns?last=4096&loop=1",
        "/healthz?strict=0",
        "/livez?",
    ] {
        assert_eq!(http.get(target).status, 200, "{target}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_also_behind_one_that_waits() {
    let (_setup, server) = alone();
    let mut http = Http::connect(server.admin());
    let targets = ["/livez", "/connz?limit=1", "/nothing", "/connz?limit=2", "/varz"];
    let rest = "HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let requests: String = targets.map(|target| format!("GET {target} {rest}")).concat();
    http.send(requests.repeat(20));
    for _ in 0..20 {
        assert!(http.response().expect("the first").text().contains("loops_turn"));
        assert_eq!(http.response().expect("the second").json()["limit"], 1);
        assert_eq!(http.response().expect("the third").status, 404);
        assert_eq!(http.response().expect("the fourth").json()["limit"], 2);
        assert_eq!(http.response().expect("the fifth").json()["name"], "Goloman");
    }
    // Cut anywhere.
    for byte in requests.bytes() {
        http.send([byte]);
    }
    let statuses: Vec<u16> =
        targets.iter().map(|_| http.response().expect("a response").status).collect();
    assert_eq!(statuses, [200, 200, 404, 200, 200]);
    http.send("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".replace('x', "[::1]"));
    assert_eq!(http.response().expect("the last").field("connection"), Some("close"));
    assert!(http.ends());
}

#[test]
fn a_slow_head_and_a_silent_connection_end_in_time() {
    let (_setup, server) = alone();
    let begin = Instant::now();
    let mut silent = Http::connect(server.admin());
    let mut slow = Http::connect(server.admin());
    let mut kept = Http::connect(server.admin());
    assert_eq!(kept.get("/livez").status, 200);
    let head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n";
    let mut sent = 0;
    while slow.is_silent() {
        assert!(begin.elapsed() < LIMIT, "a head of a byte at a time goes on");
        // The last bytes are never sent: they would complete the head.
        if sent < head.len() {
            std::io::Write::write_all(&mut slow.stream, &head[sent..=sent]).ok();
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(slow.ends());
    assert!(begin.elapsed() >= ADMIN_HEAD_TIMEOUT, "{:?}", begin.elapsed());
    assert!(silent.ends());
    server.wait_for_log("request not completed within 5 s");
    assert_eq!(kept.get("/livez").status, 200, "between requests there is more time");
}

#[test]
fn beyond_its_sessions_the_listener_says_so_and_clients_do_not_notice() {
    let setup = Setup::alone().section("[limits]\nclient_connections = 8");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    let mut sessions: Vec<Http> =
        (0..ADMIN_SESSIONS).map(|_| Http::connect(server.admin())).collect();
    for http in &mut sessions {
        assert_eq!(http.get("/livez").status, 200);
    }
    for _ in 0..8 {
        let mut further = Http::connect(server.admin());
        let response = further.response().expect("it is told without having asked");
        assert_eq!((response.status, response.field("connection")), (503, Some("close")));
        assert!(response.text().contains("too many sessions: 32"), "{}", response.text());
        assert!(further.ends());
    }
    // Far more than the listener accepts at all.
    let crowd: Vec<_> =
        (0..300).filter_map(|_| std::net::TcpStream::connect(server.admin()).ok()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("IAMAT kiwi +1.0+2.0 10"), "AT AT kiwi +1.0+2.0 10");
    }
    for http in &mut sessions {
        assert_eq!(http.get("/livez").status, 200, "those that are open are served");
    }
    drop((crowd, sessions));
    wait_until(LIMIT, "there is room again", || {
        Http::connect(server.admin()).response_or_silence() == Some(200)
    });
    let metrics = get(server.admin(), "/metrics").text();
    let is_rejected = |line: &&str| {
        line.starts_with("herd_connections_closed_total{kind=\"client\"")
            || line.starts_with("herd_connections_rejected_total{kind=\"client\"")
    };
    let of_clients: Vec<&str> = metrics.lines().filter(is_rejected).collect();
    assert!(
        !of_clients.is_empty() && of_clients.iter().all(|line| line.ends_with(" 0")),
        "{of_clients:#?}"
    );
    server.wait_for_log("32 connections to the admin listener are open");
    assert!(!server.log().contains("connection limit"), "that is the clients' limit");
}

#[test]
fn costly_answers_take_a_small_part_of_the_loops_time_and_probes_do_not_wait_for_them() {
    let (_folder, server) = alone();
    let mut clients: Vec<_> = (0..1_000).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| drop(client.ask("IAMAT kiwi +1.0+2.0 10")));
    let mut http = Http::connect(server.admin());
    let mut probe = Http::connect(server.admin());
    let (begin, mut slowest) = (Instant::now(), Duration::ZERO);
    for _ in 0..40 {
        http.send("GET /connz?limit=1024 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let asked = Instant::now();
        assert_eq!(probe.get("/livez").status, 200);
        slowest = slowest.max(asked.elapsed());
        assert_eq!(http.response().map(|page| page.status), Some(200));
    }
    // Each is counted with 3 ms, of which ten times as much must pass. The first few are a burst.
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(1), "40 pages came within {took:?}");
    assert!(slowest < LIMIT, "a probe took {slowest:?}");
}

#[test]
fn a_body_is_cut_after_the_head() {
    let (_setup, server) = alone();
    let mut http = Http::connect(server.admin());
    http.send("GET /varz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388608\r\n\r\n");
    let response = http.response().expect("before the body");
    assert_eq!(response.status, 413);
    let piece = [b'x'; 65_536];
    let mut sent = 0;
    while sent < 64 << 20 && std::io::Write::write_all(&mut http.stream, &piece).is_ok() {
        sent += piece.len();
    }
    assert!(sent < 64 << 20, "the server reads on");
    server.assert_serves();
}

#[test]
fn connections_are_sorted_and_paged() {
    let (_setup, server) = alone();
    let mut clients: Vec<_> = (0..5).map(|_| server.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        for line in 0..=number {
            client.ask(&format!("IAMAT kiwi{number} +1.0+2.0 1{line}"));
        }
    }
    let mut http = Http::connect(server.admin());
    let all = http.get("/connz").json();
    assert_eq!(all["total"], 6, "five clients and this session");
    let page = |http: &mut Http, query: &str| {
        let page = http.get(&format!("/connz?kind=client&{query}")).json();
        let rows = page["connections"].as_array().expect("rows").clone();
        (page["total"].as_u64(), rows)
    };
    let (total, rows) = page(&mut http, "sort=bytes_in");
    let lines: Vec<_> = rows.iter().map(|row| row["lines"].as_u64().expect("a number")).collect();
    assert_eq!((total, lines), (Some(5), vec![5, 4, 3, 2, 1]));
    let last = &rows[0];
    assert_eq!(last["last_id"], "kiwi4");
    assert_eq!(last["kind"], "client");
    assert_eq!(last["address"], clients[4].stream.local_addr().expect("bound").to_string());
    assert_eq!((&last["transport"], &last["paused"]), (&Value::from("plain"), &Value::Null));
    assert_eq!(last["pending"], 0);
    assert!(last["opened"].as_str().is_some_and(|time| time.ends_with('Z')), "{last}");
    assert!(last["bytes_out"].as_u64() > Some(0) && last["idle"].as_f64() >= Some(0.0), "{last}");
    // The pages together are the whole.
    let mut ids = Vec::new();
    for offset in [0, 2, 4, 6] {
        let (_, rows) = page(&mut http, &format!("limit=2&offset={offset}"));
        ids.extend(rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
    }
    let (_, rows) = page(&mut http, "sort=id");
    let whole: Vec<_> = rows.iter().map(|row| row["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, whole);
    let (_, rows) = page(&mut http, "sort=idle&limit=1");
    assert_eq!(rows[0]["last_id"], "kiwi0", "it was silent for longest");
}

#[test]
fn a_client_that_does_not_read_is_found_by_its_pending_output() {
    let setup = Setup::alone().section("[limits]\noutput_bytes = \"64KiB\"");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let mut others: Vec<_> = (0..3).map(|_| server.client()).collect();
    others.iter_mut().for_each(|client| _ = client.ask("IAMAT kiwi +1.0+2.0 10"));
    let mut slow = server.client();
    slow.stream.set_nonblocking(true).expect("it is a socket");
    let lines = "IAMAT slow +1.0+2.0 10\n".repeat(4_000);
    let mut http = Http::connect(server.admin());
    wait_until(LIMIT, "its output is full", || {
        _ = std::io::Write::write(&mut slow.stream, lines.as_bytes());
        let page = http.get("/connz?kind=client&sort=pending&limit=1").json();
        let row = &page["connections"][0];
        assert_eq!(page["total"], 4);
        row["paused"] == "output_full" && row["last_id"] == "slow"
    });
    let row = http.get("/connz?sort=pending&limit=1").json()["connections"][0].clone();
    assert!(row["pending"].as_u64() > Some(64 << 10), "{row}");
}

#[test]
fn ids_are_escaped_and_shown_only_with_positions() {
    let setup = Setup::alone();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let mut client = server.client();
    client.send(b"IAMAT </script>\x01\xff\" +1.0+2.0 10\n");
    assert!(matches!(client.next(LIMIT), Next::Line(_)));
    let page = get(server.admin(), "/connz?kind=client");
    assert!(!page.text().contains('\u{1}'), "control characters are escaped");
    let row = &page.json()["connections"][0];
    assert_eq!(row["last_id"], "</script>\u{1}\u{fffd}\"");
    assert_eq!(row["last_id_base64"], "PC9zY3JpcHQ+Af8i");
    let setup = Setup::alone().section("[admin]\npositions = false");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let mut client = server.client();
    client.ask("IAMAT secret +1.0+2.0 10");
    for path in PATHS {
        let text = get(server.admin(), path).text();
        assert!(!text.contains("secret"), "{path}: {text}");
    }
}

#[test]
fn another_loop_is_asked_for_its_connections() {
    let setup = Setup::alone().top("loops = 2");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let _clients: Vec<_> = (0..64)
        .map(|_| {
            let mut client = server.client();
            client.ask("IAMAT kiwi +1.0+2.0 10");
            client
        })
        .collect();
    let mut http = Http::connect(server.admin());
    let mut of = |number: usize| {
        let page = http.get(&format!("/connz?kind=client&loop={number}")).json();
        assert_eq!(page["loop"], number);
        page["total"].as_u64().expect("a number")
    };
    let (first, second) = (of(1), of(2));
    assert_eq!(first + second, 64);
    assert!(second > 0, "the kernel gives each loop some");
    let turns = http.get("/debug/turns?loop=2&last=5").json();
    assert_eq!(turns["turns"].as_array().map(Vec::len), Some(5));
    assert_eq!(http.get("/livez").status, 200);
    assert_eq!(http.get("/connz?loop=3").status, 400);
}

/// The checks of readiness and health as an operator would do them: with neighbours that are stopped.
#[test]
fn a_server_is_ready_once_it_was_in_sync_and_stays_so_whatever_its_neighbours_do() {
    let setup = Setup::star(&["Hands"]).heartbeat("4s");
    let hands = setup.start("Hands");
    hands.hold();
    let goloman = setup.start_with("Goloman", &["--admin", "0"]);
    let mut http = Http::connect(goloman.admin());
    let response = http.get("/readyz");
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(response.json()["checks"]["in_sync"], false);
    let link = http.get("/linksz").json()["links"][0]["in"].clone();
    assert_eq!((&link["state"], &link["transport"]), (&"down".into(), &Value::Null), "never yet");
    assert_eq!(http.get("/livez").status, 200, "a restart would not help");
    hands.signal(Signal::CONT);
    wait_until(LIMIT, "it is ready", || get(goloman.admin(), "/readyz").status == 200);
    wait_until(LIMIT, "it is healthy", || get(goloman.admin(), "/healthz?strict=1").status == 200);
    let link = get(goloman.admin(), "/linksz").json()["links"][0].clone();
    assert_eq!((&link["neighbour"], &link["out"]["state"]), (&"Hands".into(), &"up".into()));
    assert_eq!(link["out"]["address"], setup.peers_address("Hands").to_string());
    assert_eq!((&link["in"]["state"], &link["out"]["lag"]), (&"up".into(), &Value::from(0.0)));
    hands.hold();
    goloman.client().ask("IAMAT kiwi +1.0+2.0 10");
    wait_until(LIMIT, "the link is down", || {
        get(goloman.admin(), "/healthz?strict=1").status == 503
    });
    let health = get(goloman.admin(), "/healthz");
    assert_eq!((health.status, &health.json()["status"]), (200, &"degraded".into()));
    let reasons = health.json()["reasons"].to_string();
    assert!(reasons.contains("Hands"), "{reasons}");
    assert_eq!(get(goloman.admin(), "/readyz").status, 200);
    assert_eq!(get(goloman.admin(), "/livez").status, 200);
    let lag = || get(goloman.admin(), "/linksz").json()["links"][0]["out"]["lag"].as_f64();
    let (begin, before) = (Instant::now(), lag().expect("a number"));
    wait_until(LIMIT, "the lag rises", || lag() >= Some(before + 1.0));
    let risen = lag().expect("a number") - before;
    assert!(risen <= begin.elapsed().as_secs_f64() + 0.001, "by more than a second a second");
    let link = get(goloman.admin(), "/linksz").json()["links"][0].clone();
    wait_until(LIMIT, "the reason is named", || {
        let out = get(goloman.admin(), "/linksz").json()["links"][0]["out"].clone();
        out["last_error"]["reason"].is_string() && out["state"] != "up"
    });
    assert_eq!(link["neighbour"], "Hands");
    hands.signal(Signal::CONT);
    wait_until(LIMIT, "it is healthy again", || {
        get(goloman.admin(), "/healthz?strict=1").status == 200
    });
}

#[test]
fn why_a_link_does_not_come_up_or_ended_is_said_in_words() {
    let mut setup = Setup::star(&["Hands", "Holiday"]);
    let port = setup.peers_address("Holiday").port();
    setup.detour_by_name("Goloman", "Holiday", &format!("no-such-host.invalid:{port}"));
    let goloman = setup.start_with("Goloman", &["--admin", "0"]);
    let error = |name: &str, direction: &str| {
        let links = get(goloman.admin(), "/linksz").json();
        let mut links = links["links"].as_array().expect("a list").iter();
        let link = links.find(|link| link["neighbour"] == name).expect("it is configured").clone();
        link[direction]["last_error"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    wait_until(LIMIT, "the name is said to be unknown", || {
        error("Holiday", "out").contains("no-such-host.invalid")
    });
    let reasons = get(goloman.admin(), "/healthz").json()["reasons"].to_string();
    assert!(reasons.contains("no-such-host.invalid"), "{reasons}");
    for (line, reason) in [("FOO".to_owned(), "not accepted"), ("U".repeat(70_000), "too long")] {
        let (mut peer, _) = connect_as(&goloman, "Hands", "00000000000000bb");
        peer.send(format!("{line}\n"));
        drop(peer);
        wait_until(LIMIT, reason, || error("Hands", "in").contains(reason));
    }
}

#[test]
fn a_server_that_waits_too_long_for_its_neighbours_is_ready_all_the_same() {
    let setup = Setup::star(&["Hands"])
        .heartbeat("10m")
        .section("[admin]\nready_timeout = \"1s\"\nhosts = [\"herd.example\"]");
    let hands = setup.start("Hands");
    hands.hold();
    let goloman = setup.start_with("Goloman", &["--admin", "0"]);
    wait_until(LIMIT, "it is ready", || get(goloman.admin(), "/readyz").status == 200);
    let checks = get(goloman.admin(), "/readyz").json()["checks"].clone();
    assert_eq!((&checks["in_sync"], &checks["ready_timeout"]), (&false.into(), &true.into()));
    let mut http = Http::connect(goloman.admin());
    http.send("GET /readyz HTTP/1.1\r\nHost: Herd.Example:1\r\n\r\n");
    assert_eq!(http.response().expect("a response").status, 200, "the name is listed");
}

#[test]
fn a_reload_that_failed_is_a_reason_until_one_succeeds() {
    let (setup, server) = alone();
    let mut http = Http::connect(server.admin());
    assert_eq!(http.get("/healthz?strict=1").status, 200);
    let path = setup.config_file("Goloman");
    std::fs::write(&path, "nonsense").expect("the temporary folder can be written");
    server.signal(Signal::HUP);
    wait_until(LIMIT, "it is degraded", || {
        get(server.admin(), "/healthz")
            .text()
            .contains("the last reload of the configuration failed")
    });
    assert_eq!(http.get("/healthz?strict=1").status, 503);
    assert_eq!(http.get("/readyz").status, 200, "the former configuration is in force");
    setup.config_file("Goloman");
    server.signal(Signal::HUP);
    wait_until(LIMIT, "it is healthy again", || {
        get(server.admin(), "/healthz?strict=1").status == 200
    });
}

#[test]
fn a_stop_ends_the_connections_of_the_admin_listener() {
    let (_setup, server) = alone();
    let mut idle = Http::connect(server.admin());
    assert_eq!(idle.get("/livez").status, 200);
    let _silent = Http::connect(server.admin());
    let begin = Instant::now();
    assert!(server.stop().success());
    assert!(begin.elapsed() < Duration::from_secs(5), "it waits for none of them");
    assert!(idle.ends());
}

#[test]
fn a_stop_waits_for_the_answer_of_a_session_and_not_for_all_that_it_asks_behind_it() {
    let (_setup, server) = alone();
    let mut http = Http::connect(server.admin());
    // Their share of the time is reached after a few; all of them would take more than the grace of a stop.
    http.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(5_000));
    assert_eq!(http.response_to("HEAD").map(|first| first.status), Some(200));
    let begin = Instant::now();
    assert!(server.stop().success());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "it took {took:?}");
}

#[test]
fn the_servers_of_a_herd_count_up_from_the_address() {
    let setup = Herd::small_setup();
    let ports = consecutive_ports();
    let first = ports[0].number;
    let mut command = Herd::command(&setup);
    command.args(["--admin", &first.to_string()]);
    let herd = Herd::spawn(setup, command);
    for (place, name) in ["Goloman", "Hands"].into_iter().enumerate() {
        let address = SocketAddr::from(([127, 0, 0, 1], first + place as u16));
        assert_eq!(get(address, "/varz").json()["name"], name);
    }
    herd.kill_and_wait_for_another("Hands");
    let address = SocketAddr::from(([127, 0, 0, 1], first + 1));
    assert_eq!(get(address, "/varz").json()["name"], "Hands", "at the same port as before");
}

/// Two ports that follow each other.
fn consecutive_ports() -> [Port; 2] {
    for _ in 0..1_000 {
        let ports = [reserve(), reserve()];
        if ports[1].number == ports[0].number + 1 {
            return ports;
        }
    }
    panic!("no two free ports follow each other");
}

/// Without a socket: A, and a session of its admin listener.
fn without_socket(at: Duration) -> (Server, Session) {
    let text =
        "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    let config = &Config::parse(text).expect("a configuration");
    let setup = ServerSetup { epoch: Epoch(0xabcd), ..ServerSetup::plain(config, now(at)) };
    let mut server = Server::new(setup);
    let mut out = Vec::new();
    let mut io = io(at, &mut out);
    let opened = server.handle_open(Opened::plain(Origin::Accepted(ADMIN)), &mut io);
    let (session, policy) = opened.expect("it is accepted");
    assert!(policy.drains_on_stop && !policy.evictable);
    (server, session)
}

fn now(elapsed: Duration) -> Now {
    Now { elapsed, wall: WallTime(0) }
}

fn io(at: Duration, out: &mut Vec<u8>) -> Io<'_> {
    Io::new(ID, ([127, 0, 0, 1], 1).into(), now(at), out, 1 << 20)
}

const ID: ConnectionId = ConnectionId { slot: 0, generation: 1 };

#[test]
fn a_session_whose_time_is_over_is_closed_and_one_that_is_behind_does_not_make_the_loop_spin() {
    let (mut server, _session) = without_socket(Duration::from_secs(60));
    let mut judge = |seconds: u64, is_behind: bool| {
        let now = now(Duration::from_secs(seconds));
        server.handle_timeout(&mut Due::new(now, &mut |_| is_behind));
        let mut closed = false;
        while let Some(command) = server.poll_command() {
            closed |= matches!(command, Command::Close(ID));
        }
        assert!(server.poll_timeout() > Some(now.elapsed), "the loop would not wait");
        closed
    };
    assert!(!judge(64, false), "it has 5 s for its first request");
    assert!(!judge(65, true) && !judge(80, true), "it may have sent one");
    assert!(judge(90, false));
    assert!(!judge(91, false), "it is closed once");
}

#[test]
fn a_server_that_stops_is_not_ready() {
    let at = Duration::from_secs(60);
    let (mut server, mut session) = without_socket(at);
    server.handle_timeout(&mut Due::new(now(at), &mut |_| false)); // Alone it is in sync.
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (status, next) in [("HTTP/1.1 200 ", Goes::Read), ("HTTP/1.1 503 ", Goes::Finish)] {
        let mut out = Vec::new();
        let mut io = io(at, &mut out);
        assert_eq!(server.handle_bytes(&mut session, request, &mut io), next);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.starts_with(status), "{text}");
        server.handle_stop(now(at));
    }
    while let Some(command) = server.poll_command() {
        assert!(!matches!(command, Command::Stop));
    }
}
