use super::*;
use crate::application::ConnectionId;
use crate::clock::WallTime;

/// A server with one connection, which is driven as the loop would drive it.
struct World {
    server: PlacesServer,
    client: HttpClient,
    out: Vec<u8>,
}

impl World {
    fn new(key: Option<&str>) -> World {
        let key = key.and_then(|key| ApiKey::parse(key.as_bytes()));
        let mut server = PlacesServer::new(PlacesServerSetup {
            gazetteer: Arc::new(Gazetteer::unpack()),
            key,
            log_name: "Places".to_owned(),
            limits: ConfiguredLimits::default(),
            log: None,
        });
        let mut out = Vec::new();
        let opened = Opened::plain(Origin::Accepted(HTTPS));
        let (client, policy) =
            server.handle_open(opened, &mut io(&mut out)).expect("it is accepted");
        assert!(policy.evictable && policy.drains_on_stop);
        World { server, client, out }
    }

    /// What comes of these bytes: the answer, and how the connection goes on.
    fn bytes(&mut self, bytes: &[u8]) -> (String, Next) {
        self.out.clear();
        let next = self.server.handle_bytes(&mut self.client, bytes, &mut io(&mut self.out));
        (String::from_utf8_lossy(&self.out).into_owned(), next)
    }
}

fn io(out: &mut Vec<u8>) -> Io<'_> {
    let now = Now { elapsed: Duration::ZERO, wall: WallTime(0) };
    let id = ConnectionId { slot: 1, generation: 1 };
    Io::new(id, "127.0.0.1:1".parse().expect("an address"), now, out, 65_536)
}

const ANY: &str =
    "GET /maps/api/place/nearbysearch/json?location=34.068930,-118.445127&radius=1000";
const REST: &str = " HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn pipelined_requests_are_answered_one_per_turn_and_in_order() {
    let mut world = World::new(None);
    let first = format!("{ANY}{REST}");
    let (answer, next) = world.bytes(format!("{first}GET /x{REST}GET /y").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"results\""));
    assert_eq!((next, answer.matches("HTTP/1.1 ").count()), (Next::Again, 1));
    let (answer, next) = world.bytes(b"");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(next, Next::Again);
    assert_eq!(world.bytes(b""), (String::new(), Next::Rest));
    let held = world.server.held_bytes(&world.client);
    assert!(held > 0, "the beginning of a request is held");
    let (answer, next) = world.bytes(REST.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(next, Next::Read, "nothing is begun");
}

#[test]
fn a_request_that_is_not_complete_must_be_completed_in_time() {
    let mut world = World::new(None);
    assert_eq!(world.bytes(b"GE"), (String::new(), Next::Rest));
    let head = "T / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (answer, next) = world.bytes(head.as_bytes());
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    assert_eq!(next, Next::Finish);
}

#[test]
fn a_client_that_expects_100_continue_gets_it_once() {
    let mut world = World::new(None);
    let head = "POST /v1/places:searchNearby HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\
                Expect: 100-continue\r\n\r\n";
    let (answer, next) = world.bytes(head.as_bytes());
    assert_eq!((answer.as_bytes(), next), (CONTINUE, Next::Rest));
    assert_eq!(world.bytes(b"{"), (String::new(), Next::Rest));
    let (answer, next) = world.bytes(b"}");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(next, Next::Read);
}

#[test]
fn a_request_without_the_key_is_denied() {
    let mut world = World::new(Some("secret"));
    for (field, denied) in [("", true), ("&key=other", true), ("&key=secret", false)] {
        let (answer, _) = world.bytes(format!("{ANY}{field}{REST}").as_bytes());
        assert_eq!(answer.contains("REQUEST_DENIED"), denied, "{field}: {answer}");
    }
}

#[test]
fn a_malformed_request_is_answered_and_ends_the_connection() {
    let mut world = World::new(None);
    let (answer, next) = world.bytes(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert_eq!((answer.matches("HTTP/1.1 ").count(), next), (1, Next::Finish));
    assert_eq!(world.bytes(b"GET / HTTP/1.1\r\n").1, Next::Finish, "nothing else is handled");
}

#[test]
fn clients_are_counted_until_they_are_closed() {
    let mut world = World::new(None);
    assert_eq!(world.server.clients(), 1);
    let io = io(&mut world.out);
    let origin = Origin::Accepted(HTTPS);
    let why = &crate::application::Closed::Finished;
    let closed = ClosedConnection { id: io.id, peer: io.peer, origin, why };
    let now = io.now;
    world.server.handle_closed(closed, world.client, now);
    assert_eq!(world.server.clients(), 0);
}
