use super::*;
use crate::logging::{Escaped, LevelOverrides};

fn text(message: &TrafficRecord<'_>) -> String {
    let mut out = Vec::new();
    message.append::<false>(&mut PeerText::default(), &mut out);
    String::from_utf8(out).expect("a record is UTF-8")
}

#[test]
fn a_record_is_written_as_a_formatter_would() {
    let addresses = [
        "127.0.0.1:0",
        "10.200.3.99:9",
        "255.255.255.255:65535",
        "[::1]:5123",
        "[fe80::1%3]:80",
        "0.0.0.0:10",
    ];
    let lines = [&b"IAMAT kiwi +1-2 3.0"[..], b"", b"a\\\xff\x1b\r\"", "café\u{202e}".as_bytes()];
    for address in addresses {
        let address: SocketAddr = address.parse().expect("an address");
        for line in lines {
            let record = text(&TrafficRecord::Received { from: Party::Address(address), line });
            assert_eq!(record, format!("Received from {address}: {}", Escaped(line)));
        }
    }
    let sent = |answer| text(&TrafficRecord::Sent { to: "Hands".into(), answer });
    assert_eq!(sent(b"AT A\n"), "Sent to Hands: AT A");
    assert_eq!(sent(b"AT A"), "Sent to Hands: AT A");
    assert_eq!(sent(b"AT A\n{}\n\n"), "Sent to Hands: AT A and 5 bytes");
    let (id, location, neighbour) = (&b"ki\nwi"[..], &b"+1-2"[..], "Hands");
    assert_eq!(
        text(&TrafficRecord::Sending { id, location, neighbour }),
        "Sending ki\\x0awi location at +1-2 to Hands."
    );
    assert_eq!(
        text(&TrafficRecord::CannotSend { id, location, neighbour }),
        "Port Hands is down. Cannot send ki\\x0awi at +1-2 to Hands."
    );
    assert_eq!(
        text(&TrafficRecord::CannotSend { id, location, neighbour: TO_ENGINE }),
        "Engine is down. Cannot send ki\\x0awi at +1-2 to engine."
    );
    let response = TrafficRecord::SentResponse { to: "Hands".into(), status: 200, bytes: 7 };
    assert_eq!(text(&response), "Sent to Hands: HTTP status 200 and 7 bytes");
}

#[test]
fn the_text_of_an_address_is_that_of_the_latest_one() {
    let (mut peer, mut out) = (PeerText::default(), Vec::new());
    let addresses = ["10.0.0.1:80", "10.0.0.1:80", "10.0.0.1:81", "[::1]:80", "10.0.0.2:80"];
    for text in addresses {
        out.clear();
        let address: SocketAddr = text.parse().expect("an address");
        assert_eq!(Party::Address(address).append(&mut peer, &mut out), 0..text.len());
        assert_eq!(out, text.as_bytes());
    }
}

#[test]
fn a_kind_is_recorded_by_the_level_of_its_target() {
    for (typed, recorded) in [
        ("info,engine=off", &[Client, Link, Flood, Http][..]),
        ("debug", &KINDS),
        ("warning,engine=info", &[Engine]),
        ("off,link=debug", &[Link, LinkMarks]),
        ("info,flood=off,http=error,engine=off", &[Client, Link]),
    ] {
        let mut levels = Levels::default();
        LevelOverrides::parse(typed).expect("levels").apply(&mut levels);
        let found = KINDS.into_iter().filter(|kind| levels.of(kind.target()) >= kind.level());
        assert_eq!(found.collect::<Vec<_>>(), recorded, "{typed}");
    }
}
