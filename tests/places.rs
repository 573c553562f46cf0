//! Claim: a Places answer names the nearest places, and trimming cuts it without changing what stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use herd_mio::http::Request;
use herd_mio::places::answer::{self, MAX_RESULTS};
use herd_mio::places::gazetteer::Gazetteer;
use herd_mio::places::key::ApiKey;
use herd_mio::places::trim::trim;
use herd_mio::places::{Area, failure};
use herd_mio::places_server::routes::{first_words, reply};
use proptest::prelude::*;
use regex::bytes::Regex;
use serde_json::value::RawValue;

static GAZETTEER: LazyLock<Gazetteer> = LazyLock::new(Gazetteer::unpack);

#[test]
fn trimming_gives_the_bytes_of_the_conformance_pairs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/trim");
    let mut pairs = 0;
    for entry in fs::read_dir(&folder).expect("the folder is part of the project") {
        let input = entry.expect("the folder can be read").path();
        let name = input.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let Some(pair) = name.strip_suffix(".in.json") else {
            continue;
        };
        let bound = pair.rsplit('.').next().expect("rsplit gives at least one part");
        let bound = bound.parse().expect("the name is NAME.BOUND.in.json");
        let body = fs::read(&input).expect("the file can be read");
        let expected =
            fs::read(folder.join(format!("{pair}.out.json"))).expect("a pair has two files");
        assert_eq!(trimmed(&body, bound), text(&expected), "{pair}");
        pairs += 1;
    }
    assert!(pairs >= 16, "only {pairs} pairs");
}

#[test]
fn around_westwood_lie_28_places_and_the_nearest_come_first() {
    let westwood =
        Area { latitude: 34.068930, longitude: -118.445127, radius: 10.0 * METRES_PER_MILE };
    let places = GAZETTEER.nearest(&westwood, 1_000);
    assert_eq!(places.len(), 28);
    let nearest: Vec<_> =
        places.iter().take(3).map(|it| (it.name, format!("{:.1} km", it.distance / 1e3))).collect();
    let expected = [("Bel Air", "1.6 km"), ("Westwood", "2.0 km"), ("Century City", "2.9 km")];
    assert_eq!(nearest, expected.map(|(name, distance)| (name, distance.to_string())));
    assert_eq!(GAZETTEER.nearest(&westwood, 5), places[..5]);

    let answer = text(&answer::nearby_search(&GAZETTEER, &westwood));
    let trimmed = trimmed(answer.as_bytes(), 3);
    let third = answer.find("Century City").expect("the third is in the answer");
    assert!(trimmed.starts_with(&answer[..third]));
    assert!(trimmed.ends_with("\n   ],\n   \"status\" : \"OK\"\n}\n\n"));
    assert_eq!(trimmed.matches("place_id").count(), 3);
}

/// A place exactly at the edge counts, and so does rounding.
#[test]
fn a_place_is_within_its_own_distance() {
    let mut query =
        Area { latitude: 34.068930, longitude: -118.445127, radius: 10.0 * METRES_PER_MILE };
    for (before, place) in GAZETTEER.nearest(&query, 28).iter().enumerate() {
        query.radius = place.distance;
        assert_eq!(GAZETTEER.nearest(&query, 28).len(), before + 1, "{}", place.name);
    }
}

/// The service that stands in for Google's takes what that takes, and refuses in its words.
#[test]
fn the_places_server_refuses_requests_that_it_cannot_answer() {
    const SEARCH: &str = "/maps/api/place/nearbysearch/json";
    const NEW: &str = "/v1/places:searchNearby";
    let key = ApiKey::parse(b"sesame").expect("a key");
    let ask = |method: &str, target: &str, named: Option<&str>, body: &str| {
        let request = Request {
            method: method.into(),
            target: target.into(),
            key: named.map(str::to_owned),
            fields: String::new(),
            body: body.into(),
            keep_alive: true,
            expects_continue: false,
        };
        assert!(!first_words(&request).contains("sesame"));
        let (status, body) = reply(&request, &GAZETTEER, Some(&key));
        (status, text(&body))
    };
    let get = |query: &str| ask("GET", &format!("{SEARCH}?{query}"), None, "");
    for (query, status) in [
        ("location=34.06893,-118.445127&radius=16093&key=sesame", "OK"),
        ("location=34.06893%2C-118.445127&radius=16093&key=ses%61me", "OK"),
        ("location=90,180&radius=50000&key=sesame", "ZERO_RESULTS"),
        ("location=34,-118&radius=1", "REQUEST_DENIED"),
        ("location=34,-118&radius=1&key=open", "REQUEST_DENIED"),
        ("location=34,-118&key=sesame", "INVALID_REQUEST"),
        ("location=90.1,-118&radius=1&key=sesame", "INVALID_REQUEST"),
        ("location=34,180.1&radius=1&key=sesame", "INVALID_REQUEST"),
        ("location=34,-118&radius=50001&key=sesame", "INVALID_REQUEST"),
        ("location=34,-118&radius=-1&key=sesame", "INVALID_REQUEST"),
        ("location=NaN,-118&radius=1&key=sesame", "INVALID_REQUEST"),
    ] {
        let (code, body) = get(query);
        assert_eq!(code, 200, "{query}");
        assert!(body.contains(&format!("\"status\" : \"{status}\"")), "{query}: {body}");
    }
    let circle = |most: usize, latitude: f64| {
        format!(
            "{{\"maxResultCount\":{most},\"locationRestriction\":{{\"circle\":{{\"center\":\
             {{\"latitude\":{latitude},\"longitude\":0}},\"radius\":1}}}}}}"
        )
    };
    for (method, target, named, body, code) in [
        ("POST", NEW, Some("sesame"), circle(20, 90.0), 200),
        ("POST", NEW, Some("sesame"), circle(21, 90.0), 400),
        ("POST", NEW, Some("sesame"), circle(0, 90.0), 400),
        ("POST", NEW, Some("sesame"), circle(1, 90.1), 400),
        ("POST", NEW, Some("open"), circle(1, 90.0), 403),
        ("POST", NEW, None, circle(1, 90.0), 403),
        ("GET", NEW, Some("sesame"), circle(1, 90.0), 405),
        ("POST", SEARCH, Some("sesame"), circle(1, 90.0), 405),
        ("GET", "/", Some("sesame"), String::new(), 404),
    ] {
        let (got, answer) = ask(method, target, named, &body);
        assert_eq!(got, code, "{method} {target} {named:?} {body}");
        match code {
            200 => assert_eq!(answer, "{}\n", "nobody lives at the pole"),
            _ => assert!(answer.contains(&format!("\"code\": {code}")), "{answer}"),
        }
    }
}

#[test]
fn every_line_of_the_data_is_a_place() {
    assert_eq!((GAZETTEER.len(), GAZETTEER.is_empty()), (170_391, false));
    let everywhere = Area { latitude: 0.0, longitude: 0.0, radius: 1e9 };
    let places = GAZETTEER.nearest(&everywhere, usize::MAX);
    assert_eq!(places.len(), GAZETTEER.len());
    let ids: BTreeSet<_> = places.iter().map(|place| place.geonames_id).collect();
    assert_eq!(ids.len(), places.len());
    assert!(places.iter().all(|place| !place.name.is_empty() && place.country.len() == 2));
}

#[test]
fn a_place_is_found_at_its_own_point_with_radius_0() {
    let at = Area { latitude: -54.93355, longitude: -67.60963, radius: 0.0 };
    let answer = text(&answer::nearby_search(&GAZETTEER, &at));
    assert!(answer.contains("\"place_id\" : \"geonames:3874926\""), "{answer}");
    assert!(answer.contains("\"lat\" : -54.93355,"), "{answer}");
    let beside = Area { latitude: -54.93356, ..at };
    let answer = text(&answer::nearby_search(&GAZETTEER, &beside));
    assert!(answer.contains("ZERO_RESULTS"), "{answer}");
}

/// How long the two take for which a client waits:
/// `cargo test --release --test places -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, which means something in release only"]
fn measure_unpacking_and_queries() {
    let now = std::time::Instant::now;
    for _ in 0..5 {
        let begin = now();
        let gazetteer = Gazetteer::unpack();
        println!("unpacked {} places in {:?}", gazetteer.len(), begin.elapsed());
    }
    let points: Vec<_> = GAZETTEER
        .nearest(&Area { latitude: 0.0, longitude: 0.0, radius: 1e9 }, usize::MAX)
        .iter()
        .step_by(17)
        .map(|place| (place.latitude.to_f64() + 0.013, place.longitude.to_f64() + 0.017))
        .collect();
    for radius in [1_000.0, 10.0 * METRES_PER_MILE, 50_000.0] {
        let begin = now();
        let mut bytes = 0;
        for &(latitude, longitude) in &points {
            bytes += GAZETTEER.nearest(&Area { latitude, longitude, radius }, MAX_RESULTS).len();
        }
        let searched = begin.elapsed() / points.len() as u32;
        let begin = now();
        for &(latitude, longitude) in &points {
            bytes += answer::nearby_search(&GAZETTEER, &Area { latitude, longitude, radius }).len();
        }
        let answered = begin.elapsed() / points.len() as u32;
        println!("{radius} m: {searched:?} to search, {answered:?} with the answer ({bytes})");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn trimming_keeps_the_bytes_of_what_it_keeps(document in document(), bound in 0_usize..6) {
        let got = trim(document.body().as_bytes(), "results", bound);
        prop_assert_eq!(got.map(|bytes| text(&bytes)), Ok(document.expected(bound)));
    }

    #[test]
    fn a_blank_line_stands_at_the_end_and_only_there(document in document(), bound in 0_usize..6) {
        let got = trimmed(document.body().as_bytes(), bound);
        let lines: Vec<_> = got.split('\n').collect();
        let (last, before) = (&lines[lines.len() - 2..], &lines[..lines.len() - 2]);
        prop_assert_eq!(last, ["", ""]);
        prop_assert!(before.iter().all(|line| !line.trim_matches('\r').is_empty()), "{:?}", got);
        // So a client that reads up to the first blank line has all of it, and valid JSON.
        let read: Result<&RawValue, _> = serde_json::from_str(&got);
        prop_assert!(read.is_ok());
        // And trimming again changes nothing.
        prop_assert_eq!(&trimmed(got.as_bytes(), bound), &got);
    }

    #[test]
    fn no_bytes_make_trimming_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        jsonish in "[\\[\\]{}\",:0-9eE.a\\\\ \r\n\u{feff}]{0,40}",
        document in document(),
        at in any::<prop::sample::Index>(),
        bound in any::<usize>(),
    ) {
        let _ = trim(&bytes, "results", bound);
        let _ = trim(format!("{{\"results\":[{jsonish}]}}").as_bytes(), "results", bound);
        let mut body = document.body().into_bytes();
        let at = at.index(body.len());
        body[at] = bytes.first().copied().unwrap_or(b'"');
        let _ = trim(&body, "results", bound);
    }

    #[test]
    fn an_answer_that_was_cut_short_is_unusable(
        document in document(),
        at in any::<prop::sample::Index>(),
        bound in 0_usize..6,
    ) {
        let body = document.body();
        let at = at.index(body.trim_end().len());
        let cut_short = trim(&body.as_bytes()[..at], "results", bound);
        prop_assert!(cut_short.is_err(), "{:?}", cut_short);
    }

    #[test]
    fn a_failure_is_an_answer_without_results(status in any::<String>(), message in any::<String>()) {
        let body = failure(&status, &message);
        prop_assert_eq!(text(&body), trimmed(&body, 0));
        let read: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
        prop_assert_eq!(&read["results"], &serde_json::json!([]));
        prop_assert_eq!(read["status"].as_str(), Some(status.as_str()));
        prop_assert_eq!(read["error_message"].as_str(), Some(message.as_str()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_index_finds_what_a_scan_finds(
        (latitude, longitude) in point(),
        radius in prop_oneof![
            Just(0.0), Just(10.0 * METRES_PER_MILE), Just(50_000.0), 0.0..3_000_000.0
        ],
        most in 0_usize..25,
    ) {
        let query = Area { latitude, longitude, radius };
        let found: Vec<_> = GAZETTEER
            .nearest(&query, most)
            .iter()
            .map(|place| (place.geonames_id, place.distance))
            .collect();
        let scanned = scan(&query, most);
        prop_assert_eq!(found.len(), scanned.len());
        for ((id, distance), (scanned_id, scanned_distance)) in found.into_iter().zip(scanned) {
            // The two formulas differ by a rounding error, which may turn two places about; only
            // places that are equally far, though.
            prop_assert!((distance - scanned_distance).abs() < 1e-5);
            prop_assert!(id == scanned_id || twins(&query, scanned_distance), "{id} {scanned_id}");
        }
    }

    #[test]
    fn an_answer_is_json_with_the_places_in_their_order((latitude, longitude) in point()) {
        let query = Area { latitude, longitude, radius: 50_000.0 };
        let answer = answer::nearby_search(&GAZETTEER, &query);
        let read: serde_json::Value = serde_json::from_slice(&answer).expect("it is JSON");
        let places = GAZETTEER.nearest(&query, MAX_RESULTS);
        prop_assert_eq!(&read["status"], if places.is_empty() { "ZERO_RESULTS" } else { "OK" });
        let results = read["results"].as_array().expect("results is a list");
        prop_assert_eq!(results.len(), places.len());
        for (result, place) in results.iter().zip(&places) {
            prop_assert_eq!(&result["name"], place.name);
            prop_assert_eq!(&result["place_id"], &format!("geonames:{}", place.geonames_id));
            let location = &result["geometry"]["location"];
            prop_assert_eq!(location["lat"].as_f64(), Some(place.latitude.to_f64()));
            prop_assert_eq!(location["lng"].as_f64(), Some(place.longitude.to_f64()));
        }
        // Untrimmed it is as long as it may be: trimming only adds the blank line.
        prop_assert_eq!(trimmed(&answer, MAX_RESULTS), text(&answer) + "\n");
    }
}

/// A generated answer of a service, in pieces.
#[derive(Clone, Debug)]
struct Document {
    /// Up to the bracket that opens the list, the bracket included.
    head: String,
    /// White space, value, white space.
    elements: Vec<(String, String, String)>,
    /// From the bracket that closes the list.
    tail: String,
}

impl Document {
    fn body(&self) -> String {
        let elements: Vec<_> = self
            .elements
            .iter()
            .map(|(before, value, after)| format!("{before}{value}{after}"))
            .collect();
        format!("{}{}{}", self.head, elements.join(","), self.tail)
    }

    /// The rule of the protocol, said with what this test knows of the pieces.
    fn expected(&self, bound: usize) -> String {
        let mut kept = self.clone();
        if self.elements.len() > bound {
            kept.elements.truncate(bound);
            let (_, _, after) = &self.elements[self.elements.len() - 1];
            if let Some(last) = kept.elements.last_mut() {
                last.2 = after.clone();
            }
        }
        let body = kept.body().into_bytes();
        let one = RUN.replace_all(&body, b"\n");
        let one = text(&START.replace(&one, b""));
        one.trim_end_matches(['\r', '\n']).to_string() + "\n\n"
    }
}

static RUN: LazyLock<Regex> = LazyLock::new(|| regex("(\r*\n){2,}"));
static START: LazyLock<Regex> = LazyLock::new(|| regex("^(\r*\n)+"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a regular expression")
}

fn document() -> impl Strategy<Value = Document> {
    let element = (space(), value(), space());
    let elements = proptest::collection::vec(element, 0..6);
    let spaces = proptest::collection::vec(space(), 10);
    (elements, spaces, value(), value()).prop_map(|(elements, s, before, after)| Document {
        head: format!(
            "{}{{{}\"before\"{}:{before}{},{}\"results\"{}:{}[",
            s[0], s[1], s[2], s[3], s[4], s[5], s[6]
        ),
        elements,
        tail: format!("],{}\"\\u0061fter\":{after}{}}}{}", s[7], s[8], s[9]),
    })
}

/// White space as JSON allows it, with more line ends than anyone would write.
fn space() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec![" ", "\t", "\n", "\r\n", "\r"]), 0..5)
        .prop_map(|parts| parts.concat())
}

/// The text of a JSON value, of kinds that do not survive being parsed and printed.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1.50",
        "-0.0",
        "1E+2",
        "34.0689300000000000001",
        "123456789012345678901234567890",
        "true",
        "null",
        "{}",
        "\"\"",
        r#""caf\u00e9 é \n\n \\""#,
        r#""] , } \" [""#,
        r#""\ud800""#,
        "\"\u{2028}\u{1f5fa}\"",
    ])
    .prop_map(str::to_string);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let spaced =
            (space(), inner, space()).prop_map(|(a, value, b)| format!("{a}{value}{b}")).boxed();
        prop_oneof![
            proptest::collection::vec(spaced.clone(), 1..4)
                .prop_map(|parts| format!("[{}]", parts.join(","))),
            (space(), spaced).prop_map(|(a, value)| format!("{{{a}\"results\":[{value},1]}}")),
        ]
    })
}

/// Anywhere, near a place, and where a sphere has its seams.
fn point() -> impl Strategy<Value = (f64, f64)> {
    prop_oneof![
        2 => (-90.0..=90.0, -180.0..=180.0),
        4 => (0..BUSY.len(), -0.5..0.5, -0.5..0.5)
            .prop_map(|(at, north, east)| (BUSY[at].0 + north, BUSY[at].1 + east)),
        1 => (prop::sample::select(vec![-90.0, 90.0]), -180.0..=180.0),
        1 => (-90.0..=90.0, prop::sample::select(vec![-180.0, 180.0])),
    ]
}

/// Los Angeles, Tokyo, Delhi, Puerto Williams, Longyearbyen, and Taveuni beside the date line.
const BUSY: [(f64, f64); 6] = [
    (34.07, -118.45),
    (35.68, 139.69),
    (28.65, 77.23),
    (-54.93, -67.61),
    (78.22, 15.64),
    (-16.84, -179.97),
];

/// The nearest places by looking at each, with the haversine formula: id and metres.
fn scan(query: &Area, most: usize) -> Vec<(u32, f64)> {
    let mut within: Vec<_> = ALL
        .iter()
        .map(|&(id, latitude, longitude)| (id, haversine(query, latitude, longitude)))
        .filter(|&(_, distance)| distance <= query.radius + 0.001)
        .collect();
    within.sort_by(|one, other| one.1.total_cmp(&other.1).then(one.0.cmp(&other.0)));
    within.truncate(most);
    within
}

/// Whether more than one place is as far as that.
fn twins(query: &Area, distance: f64) -> bool {
    let as_far = |&&(_, latitude, longitude): &&(u32, f64, f64)| {
        (haversine(query, latitude, longitude) - distance).abs() < 1e-5
    };
    ALL.iter().filter(as_far).count() > 1
}

fn haversine(query: &Area, latitude: f64, longitude: f64) -> f64 {
    let half_sine = |one: f64, other: f64| ((one - other).to_radians() / 2.0).sin();
    let cosines = query.latitude.to_radians().cos() * latitude.to_radians().cos();
    let root = half_sine(query.latitude, latitude).powi(2)
        + cosines * half_sine(query.longitude, longitude).powi(2);
    2.0 * 6_371_008.8 * root.sqrt().min(1.0).asin()
}

/// Id, latitude, longitude of all places, read from the data without the code under test.
static ALL: LazyLock<Vec<(u32, f64, f64)>> = LazyLock::new(|| {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/places/gazetteer.tsv.gz");
    let packed = fs::File::open(packed).expect("the data is part of the project");
    let table = std::io::read_to_string(flate2::read::GzDecoder::new(packed)).expect("it unpacks");
    table
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let float = |at: usize| fields[at].parse().expect("a number");
            (fields[5].parse().expect("an id"), float(0), float(1))
        })
        .collect()
});

const METRES_PER_MILE: f64 = 1_609.344;

fn trimmed(body: &[u8], bound: usize) -> String {
    text(&trim(body, "results", bound).expect("the body is an answer"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("an answer is UTF-8")
}
