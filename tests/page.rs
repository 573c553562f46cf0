//! Claim: the page of the admin listener and its events show the herd as it is, cost nothing while nobody looks, and
//! nothing that comes from a client or a log becomes more than text.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::http::{Http, get};
use common::{LIMIT, ServerProcess, Setup, wait_until};
use herd_mio::application::{
    Application, Command, ConnectionId, Due, Io, Line, ListenerId, LoopMetrics, Next as Goes,
    Opened, Origin,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::limits::{
    EVENT_INTERVAL, EVENT_RING_BYTES, EVENT_STREAMS, MAP_BACK_INTERVAL, MAP_CELLS_AT_ONCE, MAP_DOTS,
};
use herd_mio::server::{ADMIN, AllMetrics, CLIENTS, Server, ServerSetup, Session};
use rustix::process::Signal;
use serde_json::Value;

/// Goloman alone, with an admin listener.
fn alone() -> (Setup, ServerProcess) {
    started(Setup::alone())
}

fn started(setup: Setup) -> (Setup, ServerProcess) {
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    (setup, server)
}

const FILES: [(&str, &str); 6] = [
    ("/", "text/html; charset=utf-8"),
    ("/page.css", "text/css; charset=utf-8"),
    ("/page.js", "text/javascript; charset=utf-8"),
    ("/land.svg", "image/svg+xml"),
    ("/favicon.svg", "image/svg+xml"),
    ("/about.txt", "text/plain; charset=utf-8"),
];
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[test]
fn each_file_of_the_page_has_its_type_and_the_policy_and_the_same_head_for_head() {
    let (_setup, server) = alone();
    let mut http = Http::connect(server.admin());
    for (path, content_type) in FILES {
        let response = http.get(path);
        http.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let head = http.response_to("HEAD").expect("a response");
        for response in [&response, &head] {
            assert_eq!(response.status, 200, "{path}");
            for (name, value) in [
                ("content-type", content_type),
                ("content-security-policy", POLICY),
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("cross-origin-resource-policy", "same-origin"),
                ("referrer-policy", "no-referrer"),
            ] {
                assert_eq!(response.field(name), Some(value), "{path}");
            }
        }
        assert!(!response.body.is_empty() && head.body.is_empty(), "{path}");
        let refused = http.get(&format!("{path}?a=1"));
        assert_eq!(refused.status, 400, "{path}");
    }
    for path in ["/index.html", "/page", "/page.css/", "/../page.css", "/%70age.css"] {
        assert_eq!(http.get(path).status, 404, "{path}");
    }
    let metrics = http.get("/metrics").text();
    for (path, count) in [("/", 2), ("page_file", 10)] {
        let line = format!("herd_admin_requests_total{{path=\"{path}\",code=\"200\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/admin/page")
}

/// The policy forbids what is inline, so none of it would work.
#[test]
fn the_six_files_are_small_and_have_no_script_or_style_but_their_own() {
    let names = std::fs::read_dir(folder()).expect("the folder").map(|entry| {
        let path = entry.expect("an entry").path();
        (path.file_name().expect("a name").to_string_lossy().into_owned(), path)
    });
    let files: HashMap<String, String> =
        names.map(|(name, path)| (name, std::fs::read_to_string(path).expect("text"))).collect();
    assert_eq!(files.len(), FILES.len());
    let bytes: usize = files.values().map(String::len).sum();
    assert!(bytes < 80_000, "{bytes} bytes");
    for (name, text) in &files {
        assert_eq!(text.matches("<script").count(), usize::from(name == "index.html"), "{name}");
        for inline in
            [" style=", "<style", " onclick=", " onload=", "javascript:", "url(", "@import"]
        {
            assert!(!text.contains(inline), "{name} has {inline}");
        }
    }
    // Texts from outside never become HTML.
    for name in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
    {
        assert!(!files["page.js"].contains(name), "{name}");
    }
}

#[test]
fn without_a_script_the_page_shows_the_links_in_a_table() {
    let (_setup, server) = started(Setup::star(&["Hands", "Holiday"]));
    wait_until(LIMIT, "both links have a reason", || {
        get(server.admin(), "/").text().matches("Connection refused").count() == 2
    });
    let page = get(server.admin(), "/").text();
    assert!(page.contains("<title>Goloman · herd-mio</title>"), "{page}");
    for name in ["Hands", "Holiday"] {
        assert!(page.contains(&format!("<th scope=\"row\">{name}</th><td>down</td>")), "{page}");
    }
    assert!(!page.contains('{'), "every place is filled");
}

/// A stream of events over a socket.
struct Stream {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An event: its name, its data.
type Event = (String, Value);

impl Stream {
    /// Asks for events, and reads the head of the answer.
    fn open(address: SocketAddr) -> (Stream, String) {
        let mut stream = TcpStream::connect(address).expect("it accepts");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let request =
            "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut stream = Stream { stream, received: Vec::new() };
        let head = stream.until("\r\n\r\n").expect("a head");
        (stream, head)
    }

    /// The stream behind its head and the time between two attempts.
    fn begun(address: SocketAddr) -> Stream {
        let (mut stream, head) = Stream::open(address);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(stream.until("\n\n").as_deref(), Some("retry: 2000"));
        stream
    }

    /// The text up to an end; None at the end of the stream.
    fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let place = self.received.windows(end.len()).position(|part| part == end.as_bytes());
            if let Some(place) = place {
                let text = String::from_utf8_lossy(&self.received[..place]).into_owned();
                self.received.drain(..place + end.len());
                return Some(text);
            }
            let mut bytes = [0; 65_536];
            match self.stream.read(&mut bytes).expect("something comes in time") {
                0 => return None,
                count => self.received.extend_from_slice(&bytes[..count]),
            }
        }
    }

    fn next(&mut self) -> Option<Event> {
        self.until("\n\n").and_then(|text| event(&text).or_else(|| self.next()))
    }

    /// The next event of which that is true.
    fn find(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) -> Event {
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            match self.next() {
                Some(event) if is_it(&event) => return event,
                Some(_) => {}
                None => break,
            }
        }
        panic!("it has not come: {what}");
    }
}

/// None for a comment.
fn event(text: &str) -> Option<Event> {
    if text.starts_with(':') {
        return None;
    }
    let (name, data) = text.split_once("\ndata: ").unwrap_or_else(|| panic!("{text:?}"));
    let name = name.strip_prefix("event: ").unwrap_or_else(|| panic!("{text:?}"));
    let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {text:?}"));
    Some((name.to_owned(), data))
}

/// The dots of an event by their ids.
fn dots((_, data): &Event) -> HashMap<String, (f64, f64)> {
    let all = data["map"]["dots"].as_array().into_iter().flatten();
    let number = |value: &Value| value.as_f64().expect("a number");
    let dot = |dot: &Value| {
        let id = dot[3].as_str().expect("an id").to_owned();
        (id, (number(&dot[1]), number(&dot[2])))
    };
    all.map(dot).collect()
}

#[test]
fn a_stream_begins_with_everything_and_goes_on_with_what_changes() {
    let (_setup, server) = started(Setup::star(&["Hands"]));
    let mut client = server.client();
    client.ask("IAMAT kiwi +34.068930-118.445127 1559865055.9");
    let (mut stream, head) = Stream::open(server.admin());
    for field in ["Content-Type: text/event-stream", "Connection: close", "Cache-Control: no-store"]
    {
        assert!(head.contains(field), "{head}");
    }
    assert!(!head.contains("Content-Length"), "{head}");
    assert_eq!(stream.until("\n\n").as_deref(), Some("retry: 2000"));
    let state = stream.next().expect("an event");
    let (name, data) = &state;
    assert_eq!(name, "state");
    assert_eq!((&data["server"], &data["positions"]), (&"Goloman".into(), &true.into()));
    let epoch = get(server.admin(), "/varz").json()["epoch"].clone();
    assert_eq!(data["epoch"], epoch);
    assert_eq!(data["herd"]["servers"][1]["name"], "Hands");
    assert_eq!(data["herd"]["edges"], serde_json::json!([[0, 1]]));
    assert_eq!(
        (&data["links"][0]["neighbour"], &data["links"][0]["up"]),
        (&"Hands".into(), &false.into())
    );
    assert_eq!(dots(&state), HashMap::from([("kiwi".to_owned(), (34.0689, -118.4451))]));
    client.ask("IAMAT kiwi +35.0-118.445127 1559865056.9");
    client.ask("IAMAT koala -35.5+100.0 1559865056.9");
    let moved = stream.find("both dots", |event| dots(event).len() == 2);
    assert_eq!(moved.0, "delta");
    assert_eq!(dots(&moved)["kiwi"], (35.0, -118.4451));
    assert_eq!(dots(&moved)["koala"], (-35.5, 100.0));
    let is_shown = |text: &Value| {
        text.as_str() == Some("Sent to Hands: MARK") || text.to_string().contains("koala")
    };
    let log = stream.find("the records about it", |(name, records)| {
        name == "log"
            && records.as_array().is_some_and(|all| all.iter().any(|record| is_shown(&record[4])))
    });
    let record = log
        .1
        .as_array()
        .and_then(|all| all.iter().find(|it| is_shown(&it[4])))
        .cloned()
        .expect("found");
    assert_eq!((&record[2], &record[3]), (&"INFO".into(), &"client".into()));
}

#[test]
fn head_of_the_events_has_no_events_and_parameters_are_refused() {
    let (_setup, server) = alone();
    let mut stream = TcpStream::connect(server.admin()).expect("it accepts");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(b"HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is sent");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("it ends");
    assert!(all.contains("text/event-stream") && all.ends_with("\r\n\r\n"), "{all}");
    assert_eq!(all.matches("\r\n\r\n").count(), 1, "{all}");
    assert_eq!(get(server.admin(), "/events?from=1").status, 400);
    // A stream that was only asked for holds no place.
    let _all: Vec<Stream> = (0..EVENT_STREAMS).map(|_| Stream::begun(server.admin())).collect();
}

#[test]
fn the_ninth_stream_is_refused_until_one_ends_and_probes_are_answered_all_the_while() {
    let (_setup, server) = alone();
    let mut streams: Vec<Stream> =
        (0..EVENT_STREAMS).map(|_| Stream::begun(server.admin())).collect();
    let (_, head) = Stream::open(server.admin());
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(get(server.admin(), "/livez").status, 200);
    for stream in &mut streams {
        stream.find("a delta", |(name, _)| name == "delta");
    }
    drop(streams.pop());
    wait_until(LIMIT, "there is a place again", || {
        Stream::open(server.admin()).1.starts_with("HTTP/1.1 200")
    });
    let metrics = get(server.admin(), "/metrics").text();
    let refused = "herd_admin_requests_total{path=\"/events\",code=\"503\"} ";
    assert!(metrics.contains(refused) && !metrics.contains(&format!("{refused}0\n")), "{metrics}");
}

/// Longer than a session may be idle, seen without waiting for it in `a_stream_is_not_idle`.
#[test]
fn a_client_that_goes_away_frees_its_place_and_one_that_half_closes_keeps_it() {
    let (_setup, server) = alone();
    let mut kept = Stream::begun(server.admin());
    kept.stream.shutdown(std::net::Shutdown::Write).expect("it is open");
    for _ in 0..3 {
        kept.find("a delta", |(name, _)| name == "delta");
    }
    for _ in 0..3 * EVENT_STREAMS {
        wait_until(LIMIT, "there is a place", || Stream::open(server.admin()).1.contains(" 200 "));
    }
    kept.find("a delta", |(name, _)| name == "delta");
}

#[test]
fn when_the_server_stops_the_last_event_says_so_and_a_stream_that_is_not_read_holds_up_nobody() {
    let (_setup, server) = alone();
    let mut stream = Stream::begun(server.admin());
    stream.find("everything", |(name, _)| name == "state");
    let _unread = Stream::open(server.admin());
    server.signal(Signal::TERM);
    let mut last = None;
    while let Some(event) = stream.next() {
        last = Some(event);
    }
    assert_eq!(last.map(|(name, _)| name).as_deref(), Some("leaving"));
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn when_the_server_drains_the_stream_says_so_until_its_end() {
    let stop = "[stop]\ndrain_delay = \"1s\"\ndrain_duration = \"2s\"";
    let (_setup, server) = started(Setup::alone().section(stop));
    let mut stream = Stream::begun(server.admin());
    stream.find("everything", |(name, _)| name == "state");
    server.signal(Signal::USR2);
    stream.find("that it drains", |(_, data)| data["numbers"]["phase"] == "draining");
    stream.find("the end", |(name, _)| name == "leaving");
    assert_eq!(stream.next(), None);
}

/// Ids that are HTML, end a script, move a cursor, or are no text at all.
fn attacks() -> [Vec<u8>; 5] {
    [
        b"<img/src=x/onerror=document.title=1>".to_vec(),
        b"</script><script>alert(1)</script>".to_vec(),
        b"\x1b[2J\x07\\\"'&{name}".to_vec(),
        "\u{202e}\u{2028}kiwi".into(),
        vec![0xff; 256],
    ]
}

#[test]
fn ids_of_an_attacker_are_text_in_json_on_one_line() {
    let (_setup, server) = alone();
    let mut client = server.client();
    for id in attacks() {
        client.send([b"IAMAT ", &id[..], b" +1.0+2.0 1559865055.9\n"].concat());
        assert!(client.line_bytes().starts_with(b"AT "), "it is an id like any other");
    }
    let mut stream = Stream::begun(server.admin());
    let state = stream.find("everything", |(name, _)| name == "state");
    let shown = dots(&state);
    let texts = [
        "<img/src=x/onerror=document.title=1>".to_owned(),
        "</script><script>alert(1)</script>".to_owned(),
        "\\x1b[2J\\x07\\\\\"'&{name}".to_owned(),
        "\\xe2\\x80\\xae\\xe2\\x80\\xa8kiwi".to_owned(),
        "\\xff".repeat(256),
    ];
    for text in texts {
        assert!(shown.contains_key(&text), "{text} is not among {:?}", shown.keys());
    }
    let page = get(server.admin(), "/").text();
    assert!(!page.contains("onerror") && !page.contains("alert"), "the page holds no id");
}

#[test]
fn without_positions_there_is_no_id_and_no_position_in_any_event() {
    let (setup, server) = started(Setup::star(&["Hands"]).section("[admin]\npositions = false"));
    let mut client = server.client();
    client.ask("IAMAT secretkiwi +34.068930-118.445127 1559865055.9");
    let mut stream = Stream::begun(server.admin());
    client.ask("IAMAT secretkiwi +35.0-118.445127 1559865056.9");
    let mut events = Vec::new();
    while events.len() < 4 {
        events.push(stream.next().expect("an event"));
    }
    // Where a neighbour should be is something else.
    let mut other = setup.play("Hands").accept();
    other.send("AT AT secretkiwi +34.0-118.445127 1559865055.9\n");
    wait_until(LIMIT, "the reason is said without the line", || {
        let said = ["/linksz", "/healthz", "/"].map(|path| get(server.admin(), path).text());
        let reason = "it answered what no neighbour answers";
        assert!(said.iter().all(|text| !text.contains("secretkiwi")), "{said:?}");
        said.iter().all(|text| text.contains(reason))
    });
    // A client that has connected to the wrong port: the warning quotes what it said.
    server.peer().ask("IAMAT secretkiwi +36.0-118.445127 1559865057.9");
    events.push(stream.find("the warning", |(name, data)| {
        name == "log" && data.to_string().contains("[admin] positions is not set")
    }));
    // A record that holds no id is shown.
    server.signal(Signal::HUP);
    events.push(stream.find("a record of the reload", |(name, data)| {
        name == "log" && data.to_string().contains("configuration reloaded")
    }));
    assert_eq!((&events[0].1["positions"], &events[0].1["map"]), (&false.into(), &Value::Null));
    for (name, data) in events {
        let text = data.to_string();
        assert!(!text.contains("secretkiwi") && !text.contains("118.44"), "{name}: {text}");
        if name == "log" {
            let targets = data.as_array().into_iter().flatten().map(|record| record[3].clone());
            assert!(targets.into_iter().all(|it| it != "client" && it != "flood"), "{data}");
        }
    }
}

#[test]
fn a_reload_that_changes_the_herd_begins_the_streams_anew() {
    let mut setup = Setup::star(&["Hands"]);
    setup.add("Holiday", &[]);
    let (setup, server) = started(setup);
    let mut stream = Stream::begun(server.admin());
    let servers = |(_, data): &Event| data["herd"]["servers"].as_array().map_or(0, Vec::len);
    assert_eq!(servers(&stream.find("everything", |(name, _)| name == "state")), 3);
    let mut setup = setup;
    setup.add("Wilkes", &["Goloman"]);
    setup.config_file("Goloman");
    server.signal(Signal::HUP);
    let state = stream.find("everything anew", |(name, _)| name == "state");
    assert_eq!(servers(&state), 4);
    let names =
        state.1["links"].as_array().into_iter().flatten().map(|link| link["neighbour"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["Hands", "Wilkes"]);
}

/// A server without sockets, a script in the loop's place, and the streams of its admin listener.
struct World {
    server: Server,
    sessions: HashMap<u32, Session>,
    now: Duration,
    /// Connections that are to be filled.
    asked: Vec<u32>,
}

impl World {
    fn new() -> World {
        let config = r#"
            [[server]]
            name = "A"
            listen = "127.0.0.1:1001"
            peer_listen = "127.0.0.1:2001"
            admin_listen = "127.0.0.1:3001"
        "#;
        let config = Config::parse(config).expect("a configuration");
        let mut server = Server::new(ServerSetup::plain(&config, at(Duration::ZERO)));
        let own = Arc::new(LoopMetrics::new(Instant::now()));
        let loops = vec![(Arc::clone(&own), server.metrics())];
        server.know_metrics(own, AllMetrics { loops, ..AllMetrics::default() });
        World { server, sessions: HashMap::new(), now: Duration::ZERO, asked: Vec::new() }
    }

    fn accept(&mut self, listener: ListenerId) -> u32 {
        let id = self.sessions.len() as u32;
        let mut out = Vec::new();
        let mut io = Io::new(connection(id), peer(), at(self.now), &mut out, ROOM);
        let opened = Opened::plain(Origin::Accepted(listener));
        let (session, _) = self.server.handle_open(opened, &mut io).expect("it is accepted");
        self.sessions.insert(id, session);
        id
    }

    /// A stream that has asked for events, and is asked to be filled.
    fn open(&mut self) -> u32 {
        let id = self.accept(ADMIN);
        let mut out = Vec::new();
        let mut io = Io::new(connection(id), peer(), at(self.now), &mut out, ROOM);
        let session = self.sessions.get_mut(&id).expect("it is open");
        let request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(self.server.handle_bytes(session, request, &mut io), Goes::Wait);
        self.pass(Duration::ZERO);
        assert_eq!(std::mem::take(&mut self.asked), [id]);
        id
    }

    fn tell(&mut self, client: u32, line: &str) {
        let mut out = Vec::new();
        let mut io = Io::new(connection(client), peer(), at(self.now), &mut out, ROOM);
        let session = self.sessions.get_mut(&client).expect("it is open");
        self.server.handle_line(session, Line::Whole(line.as_bytes()), &mut io);
        assert!(out.starts_with(b"AT "), "{line}");
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut is_behind = |_| false;
        self.server.handle_timeout(&mut Due::new(at(self.now), &mut is_behind));
        while let Some(command) = self.server.poll_command() {
            if let Command::Fill(id) = command {
                self.asked.push(id.slot);
            }
        }
    }

    /// The events that a stream gets now, with this room.
    fn fill(&mut self, id: u32, room: usize) -> Vec<Event> {
        let mut out = Vec::new();
        let mut io = Io::new(connection(id), peer(), at(self.now), &mut out, room);
        let session = self.sessions.get_mut(&id).expect("it is open");
        assert_eq!(self.server.fill(session, &mut io), Goes::Wait);
        let text = String::from_utf8(out).expect("events are text");
        text.split_terminator("\n\n").filter_map(event).collect()
    }

    fn names(&mut self, id: u32) -> Vec<String> {
        self.fill(id, ROOM).into_iter().map(|(name, _)| name).collect()
    }
}

fn connection(id: u32) -> ConnectionId {
    ConnectionId { slot: id, generation: 1 }
}

fn peer() -> SocketAddr {
    ([127, 0, 0, 1], 9).into()
}

fn at(elapsed: Duration) -> Now {
    Now { elapsed, wall: WallTime(2_000_000_000_000_000_000 + elapsed.as_nanos() as i128) }
}

const ROOM: usize = 1 << 20;

#[test]
fn one_that_reads_slowly_is_skipped_and_begins_anew_while_others_get_every_event() {
    let mut world = World::new();
    let (slow, quick) = (world.open(), world.open());
    assert_eq!(
        (world.names(slow), world.names(quick)),
        (vec!["state".to_owned()], vec!["state".to_owned()])
    );
    let client = world.accept(CLIENTS);
    let (mut bytes, mut frames) = (0, 0);
    while bytes < 2 * EVENT_RING_BYTES {
        for number in 0..1_000 {
            let id = format!("{number:0250}");
            world.tell(client, &format!("IAMAT {id} +1.0+2.0 15598650{:02}.9", frames % 100));
        }
        world.pass(EVENT_INTERVAL);
        assert_eq!(std::mem::take(&mut world.asked), [slow, quick]);
        let events = world.fill(quick, ROOM);
        assert!(events.iter().all(|(name, _)| name != "state"), "it misses nothing");
        bytes += events.iter().map(|event| event.1.to_string().len()).sum::<usize>();
        frames += 1;
        let held = world.server.shared_bytes();
        assert!(held < EVENT_RING_BYTES + 1_000_000, "{held} bytes for all streams together");
        assert!(frames < 200, "events of {bytes} bytes");
    }
    let anew = world.fill(slow, ROOM);
    assert_eq!(anew.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["state"]);
    assert!(dots(&anew[0]).len() > 100);
    world.pass(EVENT_INTERVAL);
    assert_eq!(world.names(slow), ["delta"], "from there it goes on");
}

#[test]
fn an_event_is_never_cut_and_waits_for_room() {
    let mut world = World::new();
    let stream = world.open();
    assert_eq!(world.names(stream), ["state"]);
    for _ in 0..3 {
        world.pass(EVENT_INTERVAL);
    }
    for _ in 0..3 {
        assert_eq!(world.fill(stream, 1).len(), 1, "one fills the room");
    }
    assert_eq!(world.fill(stream, 1).len(), 0);
}

#[test]
fn while_no_stream_is_open_nothing_is_due_for_it() {
    let mut world = World::new();
    world.pass(Duration::from_secs(1));
    let without = world.server.poll_timeout().map(|at| at - world.now);
    assert!(without.is_none_or(|wait| wait > EVENT_INTERVAL), "{without:?}");
    let stream = world.open();
    world.names(stream);
    world.pass(Duration::ZERO);
    let with = world.server.poll_timeout().map(|at| at - world.now);
    assert_eq!(with, Some(EVENT_INTERVAL));
    let session = world.sessions.remove(&stream).expect("it is open");
    let (id, origin) = (connection(stream), Origin::Accepted(ADMIN));
    let why = &herd_mio::application::Closed::Finished;
    let closed = herd_mio::application::ClosedConnection { id, peer: peer(), origin, why };
    world.server.handle_closed(closed, session, at(world.now));
    world.pass(EVENT_INTERVAL);
    let after = world.server.poll_timeout().map(|at| at - world.now);
    assert!(after.is_none_or(|wait| wait > EVENT_INTERVAL), "{after:?}");
    assert_eq!(world.server.shared_bytes(), World::new().server.shared_bytes());
}

#[test]
fn a_stream_is_not_idle() {
    let mut world = World::new();
    let stream = world.open();
    let mut comments = 0;
    for _ in 0..240 {
        world.pass(EVENT_INTERVAL);
        let mut out = Vec::new();
        let mut io = Io::new(connection(stream), peer(), at(world.now), &mut out, ROOM);
        let session = world.sessions.get_mut(&stream).expect("it is open");
        assert_eq!(world.server.fill(session, &mut io), Goes::Wait);
        comments += String::from_utf8_lossy(&out).matches(": still here\n\n").count();
    }
    assert_eq!(comments, 8, "one every 15 s of two minutes");
}

/// What the events have said of the cells and dots, put together.
#[derive(Default)]
struct Map {
    cells: HashMap<u64, u64>,
    dots: HashMap<u64, String>,
}

impl Map {
    fn apply(&mut self, events: &[Event]) {
        for (name, data) in events {
            let list = |name: &str| data["map"][name].as_array().cloned().unwrap_or_default();
            if name == "state" {
                *self = Map::default();
            }
            assert!(name == "state" || list("dots").len() <= MAP_DOTS, "{name}");
            for number in list("gone") {
                self.dots.remove(&number.as_u64().expect("a number"));
            }
            for dot in list("dots") {
                let number = dot[0].as_u64().expect("a number");
                self.dots.insert(number, dot[3].as_str().expect("an id").to_owned());
            }
            for cell in list("cells") {
                let number = |place: usize| cell[place].as_u64().expect("a number");
                self.cells.insert(number(0), number(1));
            }
        }
    }

    fn clients(&self) -> u64 {
        self.cells.values().sum()
    }
}

/// Each client is counted in one cell, whether it was there before the stream, came later, or has moved.
#[test]
fn many_clients_are_counted_in_cells_step_by_step_and_the_latest_are_dots() {
    let mut world = World::new();
    let client = world.accept(CLIENTS);
    let known = 20_000;
    for number in 0..known {
        let latitude = number % 80;
        world.tell(client, &format!("IAMAT client-{number} +{latitude:02}.5-100.5 1559865055.9"));
    }
    let stream = world.open();
    let mut map = Map::default();
    map.apply(&world.fill(stream, ROOM));
    assert!(map.clients() < known && map.dots.len() == MAP_DOTS, "{}", map.clients());
    let mut steps = 0;
    while map.clients() < known {
        world.pass(MAP_BACK_INTERVAL);
        map.apply(&world.fill(stream, ROOM));
        steps += 1;
        assert!(steps < 200, "{} of {known} are counted", map.clients());
    }
    assert!(steps > 5, "a step takes little time");
    assert_eq!(map.cells.len(), 80);
    // All of one row move to another one, and a new one comes.
    for number in (7..known).step_by(80) {
        world.tell(client, &format!("IAMAT client-{number} -45.5-100.5 1559865056.9"));
    }
    world.tell(client, "IAMAT latest +01.0+1.0 1559865056.9");
    world.pass(EVENT_INTERVAL);
    map.apply(&world.fill(stream, ROOM));
    assert_eq!((map.clients(), map.dots.len()), (known + 1, MAP_DOTS));
    let cell = |row: u64, column: u64| row * 360 + column;
    assert_eq!(map.cells[&cell(135, 79)], known / 80);
    assert_eq!(map.cells[&cell(82, 79)], 0);
    assert!(map.dots.values().any(|id| id == "latest"));
}

/// More cells than one event takes: the others follow, also for a stream that comes later.
#[test]
fn cells_that_do_not_fit_into_the_first_event_follow() {
    let mut world = World::new();
    let client = world.accept(CLIENTS);
    let known = 20_000;
    for number in 0..known {
        let (row, column) = (number / 180, number % 180);
        world.tell(
            client,
            &format!("IAMAT client-{number} {:+03}.5-{column:03}.5 1.5", 80 - row as i64),
        );
    }
    let early = world.open();
    for _ in 0..20 {
        world.pass(MAP_BACK_INTERVAL);
        world.fill(early, ROOM);
    }
    world.asked.clear();
    let late = world.open();
    let mut map = Map::default();
    map.apply(&world.fill(late, ROOM));
    assert_eq!(map.cells.len(), MAP_CELLS_AT_ONCE);
    for _ in 0..10 {
        world.pass(EVENT_INTERVAL);
        map.apply(&world.fill(late, ROOM));
    }
    assert_eq!((map.cells.len() as u64, map.clients()), (known, known));
}

/// More changes than are looked at for one event: what was left out is counted later.
#[test]
fn a_burst_is_skipped_and_its_clients_are_counted_afterwards() {
    let mut world = World::new();
    let client = world.accept(CLIENTS);
    let stream = world.open();
    let mut map = Map::default();
    map.apply(&world.fill(stream, ROOM));
    let known = 15_000;
    for number in 0..known {
        world.tell(client, &format!("IAMAT client-{number} +10.5-100.5 1559865055.9"));
    }
    world.pass(EVENT_INTERVAL);
    map.apply(&world.fill(stream, ROOM));
    assert!(map.clients() < known, "one event looks at some");
    for _ in 0..100 {
        world.pass(MAP_BACK_INTERVAL);
        map.apply(&world.fill(stream, ROOM));
    }
    assert_eq!(map.clients(), known);
}
