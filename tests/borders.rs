//! Claim: each limit of the protocol is exactly where sections 1 to 4 put it: a value at the limit is accepted, one
//! past it is refused, and the refusal says in plain words which limit that was.

use herd_mio::application::LineBuffer;
use herd_mio::clock::WallTime;
use herd_mio::protocol::{
    ClientRequest, Decimal, Dialect, Epoch, FromAcceptor, FromDialler, Location, Seq, Timestamp,
    Update, is_server_name,
};

const MAX_ID_BYTES: usize = 256;
const LOCATION_BYTES: usize = 64;
const TIMESTAMP_BYTES: usize = 40;

/// What a client's line is taken for: nothing wrong, or the reason for the log.
fn judged(line: &str) -> String {
    match ClientRequest::parse(line.as_bytes(), Dialect::Report) {
        Ok(_) => String::new(),
        Err(refused) => refused.to_string(),
    }
}

/// What a neighbour's line is taken for.
fn judged_peer(line: &str) -> String {
    match FromDialler::parse(line.as_bytes()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

/// A number of exactly so many bytes: `0.5000…`.
fn number_of(bytes: usize, whole: &str) -> String {
    format!("{whole}.5{}", "0".repeat(bytes - whole.len() - 2))
}

#[test]
fn the_limits_of_client_commands_are_exact() {
    let id = "x".repeat(MAX_ID_BYTES);
    let latitude = "+34.5";
    let location = format!("{latitude}-{}", number_of(LOCATION_BYTES - latitude.len() - 1, "118"));
    assert_eq!(location.len(), LOCATION_BYTES);
    let timestamp = number_of(TIMESTAMP_BYTES, "1");
    assert_eq!(timestamp.len(), TIMESTAMP_BYTES);
    for line in [
        format!("IAMAT {id} {location} {timestamp}"),
        format!("WHATSAT {id} 10 5"),
        "IAMAT a +90.000-180.000 999999999999999999.999999999".into(),
        "IAMAT a +8959-17959 0".into(),
        "IAMAT a +895959.9-1795959.9 00".into(),
        "IAMAT a +1-2+3.5CRSWGS_84/ 1".into(),
        "WHATSAT a 0 0".into(),
        "WHATSAT a 31.068559611866698480871709218165 20".into(),
        "WHATSAT a 000031 0020".into(),
    ] {
        assert_eq!(judged(&line), "", "{line}");
    }
    for (line, reason) in [
        (" \t".into(), "the line is empty"),
        ("iamat a +1-2 1".into(), "a client says IAMAT or WHATSAT"),
        ("IAMAT".into(), "the command takes three fields"),
        ("IAMAT a +1-2".into(), "the command takes three fields"),
        ("WHATSAT a 1 1 1".into(), "the command takes three fields"),
        (format!("IAMAT {id}x +1-2 1"), "the client's ID is longer than 256 bytes"),
        (format!("WHATSAT {id}x 10 5"), "the client's ID is longer than 256 bytes"),
        (format!("IAMAT a {location}0 1"), "the location is longer than 64 bytes"),
        ("IAMAT a 1-2 1".into(), "the latitude is not ±DD[.d], ±DDMM[.m] or ±DDMMSS[.s]"),
        ("IAMAT a +12345-2 1".into(), "the latitude is not ±DD[.d], ±DDMM[.m] or ±DDMMSS[.s]"),
        ("IAMAT a +1234567-2 1".into(), "the latitude is not ±DD[.d], ±DDMM[.m] or ±DDMMSS[.s]"),
        ("IAMAT a +1-1234 1".into(), "the longitude is not ±DDD[.d], ±DDDMM[.m] or ±DDDMMSS[.s]"),
        ("IAMAT a +90.0000001-2 1".into(), "the latitude is past 90 degrees"),
        ("IAMAT a +900000.1-2 1".into(), "the latitude is past 90 degrees"),
        ("IAMAT a +1-1800001 1".into(), "the longitude is past 180 degrees"),
        ("IAMAT a +1260-2 1".into(), "there are less than 60 minutes in a degree"),
        ("IAMAT a +125960-2 1".into(), "there are less than 60 seconds in a minute"),
        ("IAMAT a +1-2+ 1".into(), "the altitude is not ±n[.n]"),
        ("IAMAT a +1-2// 1".into(), "the location is followed by something else"),
        (format!("IAMAT a +1-2 {timestamp}0"), "the timestamp is longer than 40 bytes"),
        (
            "IAMAT a +1-2 1e9".into(),
            "the timestamp is not a decimal number without sign and exponent",
        ),
        (
            "IAMAT a +1-2 1000000000000000000".into(),
            "the timestamp has more than 18 digits before its point",
        ),
        (
            "WHATSAT a 31.06855961186669848087170922 5".into(),
            "the radius is not a decimal number from 0 to 50 km",
        ),
        ("WHATSAT a -1 5".into(), "the radius is not a decimal number from 0 to 50 km"),
        ("WHATSAT a 1 21".into(), "the bound is not an integer from 0 to 20"),
        ("WHATSAT a 1 100".into(), "the bound is not an integer from 0 to 20"),
        // One that 64 bits would take for 5.
        ("WHATSAT a 1 18446744073709551621".into(), "the bound is not an integer from 0 to 20"),
        ("WHATSAT a 1 5.0".into(), "the bound is not an integer from 0 to 20"),
    ] {
        assert_eq!(judged(&line), reason, "{line}");
    }
}

#[test]
fn a_radius_is_in_the_dialects_unit_and_a_bound_is_a_number() {
    let asked = |line: &str, dialect| match ClientRequest::parse(line.as_bytes(), dialect) {
        Ok(ClientRequest::Whatsat(whatsat)) => (whatsat.radius.round() as u64, whatsat.bound),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(asked("WHATSAT a 10 5", Dialect::Report), (16_093, 5));
    assert_eq!(asked("WHATSAT a 10.25 20", Dialect::Course), (10_250, 20));
    assert_eq!(asked("WHATSAT a 50 007", Dialect::Course), (50_000, 7));
    let too_far = ClientRequest::parse(b"WHATSAT a 50.01 5", Dialect::Course);
    assert!(too_far.is_err(), "{too_far:?}");
}

#[test]
fn the_limits_of_lines_between_servers_are_exact() {
    let id = "x".repeat(MAX_ID_BYTES);
    let server = "S".repeat(64);
    for line in [
        format!("UPDATELOC {id} +1-2 1 {server} -999999999999999999.999999999"),
        "UPDATELOC a +1-2 1 a-Z_0 +0.000000000".into(),
        "MARK 18446744073709551615".into(),
        "MARK 000000000000000000000000000007".into(),
        "HELLO herd/1 A 0123456789abcdef".into(),
        "SETTINGS abcdefghijklmnop 1 1".into(),
        "SETTINGS report 18446744073709551616 99999999999999999999999999".into(),
        "SETTINGS report 1 1 1 1 1 1 1 1 1 1".into(),
    ] {
        assert_eq!(judged_peer(&line), "", "{line}");
    }
    let skew = "the skew is not a sign, digits, a point and nine decimals";
    let name = "the server's name is not of the permitted form";
    for (line, reason) in [
        ("UPDATELOC a +1-2 1 A".into(), "an UPDATELOC has five fields"),
        (
            format!("UPDATELOC {id}x +1-2 1 A +0.000000000"),
            "the client's ID is longer than 256 bytes",
        ),
        ("UPDATELOC a +91-2 1 A +0.000000000".into(), "the latitude is past 90 degrees"),
        (
            "UPDATELOC a +1-2 x A +0.000000000".into(),
            "the timestamp is not a decimal number without sign and exponent",
        ),
        (format!("UPDATELOC a +1-2 1 {server}S +0.000000000"), name),
        ("UPDATELOC a +1-2 1 A.B +0.000000000".into(), name),
        ("UPDATELOC a +1-2 1 A 0.000000000".into(), skew),
        ("UPDATELOC a +1-2 1 A -0.000000000".into(), skew),
        ("UPDATELOC a +1-2 1 A +0.00000000".into(), skew),
        ("UPDATELOC a +1-2 1 A +1000000000000000000.000000000".into(), skew),
        ("MARK 18446744073709551616".into(), "no server says that here"),
        ("MARK -1".into(), "no server says that here"),
        ("SETTINGS abcdefghijklmnopq 1 1".into(), "no server says that here"),
        ("SETTINGS repor7 1 1".into(), "no server says that here"),
        ("SETTINGS report 1".into(), "no server says that here"),
        ("HELLO herd/1 A 0123456789abcde".into(), "no server says that here"),
        ("HELLO herd/1 A 0123456789abcdeg".into(), "no server says that here"),
        ("HELLO herd/2 A 0123456789abcdef".into(), "this server speaks herd/1 only"),
    ] {
        assert_eq!(judged_peer(&line), reason, "{line}");
    }
    let resumed = FromAcceptor::parse(b"RESUME fedcba9876543210 7 0123456789abcdef A");
    let Ok(FromAcceptor::Resume { mark, epoch, name }) = resumed else {
        panic!("{resumed:?}");
    };
    assert_eq!(mark, Some((Epoch(0xfedc_ba98_7654_3210), Seq(7))));
    assert_eq!((epoch, name), (Epoch(0x0123_4567_89ab_cdef), &b"A"[..]));
}

#[test]
fn a_server_is_named_by_1_to_64_letters_digits_underscores_and_hyphens() {
    let (longest, longer) = (vec![b'x'; 64], vec![b'x'; 65]);
    for name in [&b"a"[..], b"Welsh", b"a-Z_09", &longest] {
        assert!(is_server_name(name), "{}", name.escape_ascii());
    }
    for name in [&b""[..], b"a.b", b"a b", b"a/b", b"\xc3\xa4", &longer] {
        assert!(!is_server_name(name), "{}", name.escape_ascii());
    }
}

#[test]
fn a_query_for_places_has_the_digits_that_the_client_wrote() {
    for (text, latitude, longitude) in [
        ("+34.068930-118.445127", "34.068930", "-118.445127"),
        ("-33+151", "-33", "151"),
        ("+3404.1358-11826.70762", "34.06893000", "-118.44512700"),
        ("-340408.148-1182642.4572", "-34.06893000", "-118.44512700"),
    ] {
        let location = Location::parse(text.as_bytes()).expect(text);
        assert_eq!(location.latitude.decimal_degrees(), latitude);
        assert_eq!(location.longitude.decimal_degrees(), longitude);
    }
}

#[test]
fn decimals_are_equal_by_value_only() {
    let number = |text: &'static str| Decimal::parse(text.as_bytes()).expect(text);
    assert_eq!(number("1"), number("01.0"));
    assert_ne!(number("1"), number("1.000000000000000000001"));
}

#[test]
fn the_skew_is_how_far_the_servers_clock_is_ahead() {
    let timestamp = Timestamp::parse(b"10.5").expect("a timestamp");
    for (wall, text) in
        [(12_250_000_000, "+1.750000000"), (10_500_000_000, "+0.000000000"), (0, "-10.500000000")]
    {
        let mut out = Vec::new();
        WallTime(wall).skew(&timestamp).write(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), text);
    }
}

#[test]
fn an_update_knows_where_its_client_is() {
    let Ok(FromDialler::Update(update)) =
        FromDialler::parse(b"UPDATELOC a +34.5-118 10 A +0.000000000")
    else {
        panic!("it is an update");
    };
    let update = Update::new(&update);
    let location = update.location().map(|location| location.text);
    assert_eq!(location, Some(&b"+34.5-118"[..]));
}

/// What a buffer of lines reports to its owner, who lends it memory and takes it back.
#[test]
fn a_line_buffer_reports_what_it_holds() {
    let mut lines = LineBuffer::default();
    let seen = |lines: &LineBuffer| {
        (
            lines.len(),
            lines.is_empty(),
            lines.has_incomplete_line(),
            lines.has_ended(),
            lines.is_done(),
        )
    };
    assert_eq!(seen(&lines), (0, true, false, false, false));
    assert!(lines.wants_memory() && lines.reclaim().is_none());
    lines.lend(Vec::with_capacity(100));
    assert!(!lines.wants_memory());
    lines.push(b"ab\ncd");
    assert_eq!(seen(&lines), (5, false, false, false, false), "a whole line waits");
    assert!(lines.reclaim().is_none(), "there is something in it");
    lines.lend(Vec::with_capacity(7));
    assert!(lines.next_line(10).is_some());
    assert_eq!(seen(&lines), (2, false, false, false, false), "it has not been looked at");
    assert!(lines.next_line(10).is_none());
    assert_eq!(seen(&lines), (2, false, true, false, false));
    lines.end();
    assert_eq!(seen(&lines), (2, false, false, true, false));
    assert!(lines.next_line(10).is_some());
    assert_eq!(seen(&lines), (0, true, false, true, true));
    let memory = lines.reclaim().expect("what was lent");
    assert_eq!(memory.capacity(), 100);
    assert!(lines.wants_memory());

    let mut lines = LineBuffer::default();
    lines.push(b"ab\ncd\n");
    lines.close();
    assert_eq!(seen(&lines), (0, true, false, false, false));
    lines.push(b"ef\n");
    assert!(lines.next_line(10).is_none(), "nothing comes after its close");
}

/// A line is too long once its limit is passed and enough of it is there to be shown, whatever comes.
#[test]
fn a_line_without_an_end_is_too_long_by_its_first_byte_past_the_limit() {
    for (limit, bytes, too_long) in
        [(300, 300, false), (300, 301, true), (10, 255, false), (10, 256, true), (256, 256, false)]
    {
        let mut lines = LineBuffer::default();
        lines.push(&vec![b'x'; bytes]);
        assert_eq!(lines.next_line(limit).is_some(), too_long, "{bytes} of {limit}");
    }
    for (bytes, too_long) in [(10, false), (11, true)] {
        let mut lines = LineBuffer::default();
        lines.push(&vec![b'x'; bytes]);
        lines.end();
        let line = format!("{:?}", lines.next_line(10));
        assert_eq!(line.contains("TooLong"), too_long, "{bytes}: {line}");
    }
}
