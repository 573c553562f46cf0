//! Claim: an answer of the Places API (New) reaches the client in the shape of Nearby Search, with the service's
//! own numbers and texts, whatever the service sends; with `shape = "service"` it is unchanged.

mod common;

use common::service::{Act, Service, ok, with_head};
use common::{LIMIT, ServerProcess, Setup, wait_until};
use herd_mio::config::Config;
use herd_mio::http::Response;
use herd_mio::places::google::{Answer, Api, Shape};
use proptest::prelude::*;
use serde_json::{Value, json};

const NEW: Api = Api::New(Shape::Nearby);

/// What a client gets that asked for so many places; none if the answer is unusable, and why.
fn read(body: &str, bound: usize) -> Result<String, String> {
    let response = Response { status: 200, body: body.as_bytes().to_vec(), may_reuse: true };
    match NEW.read(&response, None, bound) {
        Answer::Places { usable, refusal } => {
            assert_eq!(refusal, None);
            Ok(String::from_utf8(usable.trim(bound)).expect("text"))
        }
        Answer::Failed(failure) => Err(failure.message),
    }
}

/// As Google writes it.
const ANSWER: &str = r#"{
  "places": [
    {
      "id": "ChIJ1",
      "types": [
        "cafe",

        "point_of_interest"
      ],
      "formattedAddress": "1 Street, Los Angeles, CA 90024, USA",
      "location": {
        "latitude": 34.0689300,
        "longitude": -1.184451e+02
      },
      "displayName": {
        "text": "Caf\u00e9 \"Bel\\Air\" é",
        "languageCode": "fr"
      },
      "attributions": [
        {
          "provider": "A & B's",
          "providerUri": "https://a.example/?x=1&y=\"2\""
        },
        {
          "provider": "C"
        }
      ],
      "shortFormattedAddress": "1 Street, Los Angeles"
    },
    {
      "id": "ChIJ2",
      "attributions": [ { "provider": "C" }, { "provider": "<D>", "providerUri": "javascript:x" } ]
    },
    {}
  ]
}
"#;

#[test]
fn an_answer_of_the_new_api_has_the_shape_of_nearby_search_and_its_own_numbers_and_texts() {
    let expected = r#"{
   "html_attributions" : [ "<a href=\"https://a.example/?x=1&amp;y=&quot;2&quot;\">A &amp; B&#39;s</a>", "C", "&lt;D&gt;" ],
   "results" : [
      {
         "geometry" : {
            "location" : {
               "lat" : 34.0689300,
               "lng" : -1.184451e+02
            }
         },
         "name" : "Caf\u00e9 \"Bel\\Air\" é",
         "place_id" : "ChIJ1",
         "types" : [ "cafe", "point_of_interest" ],
         "vicinity" : "1 Street, Los Angeles"
      },
      {
         "place_id" : "ChIJ2"
      },
      {}
   ],
   "status" : "OK"
}

"#;
    assert_eq!(read(ANSWER, 20).as_deref(), Ok(expected));
    let first =
        &expected[..expected.find(",\n      {\n         \"place_id\"").expect("the second")];
    let one = format!("{first}\n   ],\n   \"status\" : \"OK\"\n}}\n\n");
    assert_eq!(read(ANSWER, 1), Ok(one.replace(", \"&lt;D&gt;\"", "")), "cut to the bound");
}

#[test]
fn an_empty_answer_is_zero_results_and_a_bound_of_0_is_not() {
    let none = |status: &str| {
        Ok(format!(
            "{{\n   \"html_attributions\" : [],\n   \"results\" : [],\n   \"status\" : \"{status}\"\n}}\n\n"
        ))
    };
    for empty in ["{}", "\n{ }\n", "{\"places\": []}", "{\"places\": [ ]}"] {
        for bound in [0, 20] {
            assert_eq!(read(empty, bound), none("ZERO_RESULTS"), "{empty}");
        }
    }
    assert_eq!(read(ANSWER, 0), none("OK"));
}

#[test]
fn null_members_and_half_a_point_are_left_out() {
    for place in [
        r#"{"id":null,"types":null,"location":null,"displayName":null,"attributions":null}"#,
        r#"{"location":{"latitude":1.5},"displayName":{"languageCode":"en"},"more":[{"x":{}}]}"#,
        r#"{"location":{},"displayName":{"text":null}}"#,
    ] {
        let answer = read(&format!("{{\"places\":[{place}]}}"), 5).expect("usable");
        assert!(answer.contains("\"results\" : [\n      {}\n   ],"), "{place}: {answer}");
    }
}

#[test]
fn a_member_of_another_type_or_truncated_json_is_unusable() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let long = "x".repeat(20_000);
    let mut bodies: Vec<String> = [
        "1",
        "null",
        "[]",
        "\"x\"",
        "{\"id\":1}",
        "{\"id\":\"a\",\"id\":\"b\"}",
        "{\"types\":\"x\"}",
        "{\"types\":[1]}",
        "{\"types\":[\"a\",null]}",
        "{\"types\":{}}",
        "{\"location\":1}",
        "{\"location\":[1,2]}",
        "{\"location\":{\"latitude\":\"1\",\"longitude\":2}}",
        "{\"location\":{\"latitude\":1,\"longitude\":[]}}",
        "{\"displayName\":\"x\"}",
        "{\"displayName\":{\"text\":1}}",
        "{\"displayName\":[\"x\"]}",
        "{\"attributions\":{}}",
        "{\"attributions\":[1]}",
        "{\"attributions\":[{\"provider\":1}]}",
        "{\"attributions\":[{\"provider\":\"\\ud800\"}]}",
        "{\"shortFormattedAddress\":{}}",
    ]
    .iter()
    .map(|place| format!("{{\"places\":[{place}]}}"))
    .collect();
    bodies.push(format!("{{\"places\":[{{\"id\":{deep}}}]}}"));
    bodies.push(format!("{{\"places\":[{{\"attributions\":[{{\"provider\":\"{long}\"}}]}}]}}"));
    bodies
        .extend(["", "{", "null", "[]", "{\"places\":null}", "{\"places\":{}}"].map(str::to_owned));
    bodies.push("{\"places\":[],\"places\":[]}".to_owned());
    // It is no answer of the New API, and does not say that there is nothing.
    bodies.push("{\"results\":[],\"status\":\"OK\"}".to_owned());
    bodies.push("{\"error\":\"no\"}".to_owned());
    for body in bodies {
        let reason = read(&body, 5).expect_err(&body[..body.len().min(80)]);
        assert!(reason.contains("is unusable"), "{reason}");
    }
    // Where nobody looks, there may be anything.
    assert!(read(&format!("{{\"places\":[{{\"x\":{deep}}}]}}"), 5).is_ok());
    assert!(read("{\"places\":[{},7]}", 1).is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~\\n\"\\\\é<&]{0,6}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("text"),
        Just("latitude"),
        Just("longitude"),
        Just("provider"),
        Just("providerUri"),
        Just("x"),
    ];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..3).prop_map(
                |members| Value::from(members.into_iter().collect::<serde_json::Map<_, _>>())
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Any places at all come to an answer in the right shape, or to none.
    #[test]
    fn whatever_a_place_holds_the_answer_has_the_shape(
        places in prop::collection::vec(
            prop::collection::btree_map(
                prop::sample::select(vec![
                    "id", "types", "location", "displayName", "shortFormattedAddress", "attributions",
                ]).prop_map(str::to_owned),
                any_json(),
                0..3,
            ),
            0..4,
        ),
        bound in 0usize..4,
    ) {
        let body = json!({ "places": places }).to_string();
        let Ok(answer) = read(&body, bound) else { return Ok(()) };
        prop_assert!(answer.ends_with("}\n\n") && !answer.trim_end().contains("\n\n"), "{}", answer);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let results = answer["results"].as_array().expect("results");
        prop_assert_eq!(results.len(), places.len().min(bound));
        prop_assert!(answer["html_attributions"].is_array());
        prop_assert_eq!(&answer["status"], if places.is_empty() { "ZERO_RESULTS" } else { "OK" });
        for (result, place) in results.iter().zip(&places) {
            let own = |member: &str| place.get(member).cloned().filter(|it| !it.is_null());
            prop_assert_eq!(result.get("place_id").cloned(), own("id"));
            prop_assert_eq!(result.get("vicinity").cloned(), own("shortFormattedAddress"));
            prop_assert_eq!(result.get("types").cloned(), own("types"));
        }
    }
}

/// Goloman with a key, asking this service in the New API, with these settings of `[places]`.
fn asking(service: &Service, places: &str) -> (Setup, ServerProcess) {
    let setup = Setup::alone().any_port().section(&format!("[places]\n{places}"));
    let mut command = setup.command("Goloman");
    command.args(&service.arguments()[1..]).env("HERD_PLACES_KEY", "sesame");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    (setup, server)
}

const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1559865055.5";

#[test]
fn with_a_key_a_client_reads_the_shape_of_nearby_search_and_all_of_it_is_asked_for() {
    let service = Service::good(|_| vec![Act::Send(ok(ANSWER))]);
    let (_setup, server) = asking(&service, "");
    let mut client = server.client();
    client.ask(IAMAT);
    let answer = client.whatsat("kiwi", "10", "2");
    assert_eq!(answer.body, format!("{}\n", read(ANSWER, 2).expect("usable").trim_end()));
    let request = &service.requests()[0].text;
    for field in ["id", "displayName", "location", "types", "shortFormattedAddress", "attributions"]
    {
        assert!(request.contains(&format!("places.{field}")), "{field}: {request}");
    }
}

#[test]
fn with_the_services_own_shape_every_byte_stays() {
    let body = "{\"places\": [ 1.50, {\"id\":\"\\u00e9\"}, 3 ]}";
    let service = Service::good(move |_| vec![Act::Send(ok(body))]);
    let (_setup, server) = asking(&service, "shape = \"service\"");
    let mut client = server.client();
    client.ask(IAMAT);
    assert_eq!(
        client.whatsat("kiwi", "10", "2").body,
        "{\"places\": [ 1.50, {\"id\":\"\\u00e9\"} ]}\n"
    );
    let mask = "X-Goog-FieldMask: places.id,places.displayName,places.formattedAddress,places.location,\
                places.types\r\n";
    assert!(service.requests()[0].text.contains(mask), "{}", service.requests()[0].text);
}

#[test]
fn a_refusal_of_the_new_api_becomes_the_object_that_clients_know() {
    let error = "{\"error\": {\"code\": 429, \"message\": \"Slowly.\", \"status\": \"RESOURCE_EXHAUSTED\"}}";
    for status in ["429 Too Many Requests", "200 OK"] {
        let head = format!("{status}\r\nContent-Length: {}", error.len());
        let service = Service::good(move |_| vec![Act::Send(with_head(&head, error))]);
        let (_setup, server) = asking(&service, "");
        let mut client = server.client();
        client.ask(IAMAT);
        let answer: Value =
            serde_json::from_str(&client.whatsat("kiwi", "1", "5").body).expect("JSON");
        let expected = json!({
            "html_attributions": [], "results": [], "status": "RESOURCE_EXHAUSTED",
            "error_message": "Slowly.",
        });
        assert_eq!(answer, expected);
    }
}

/// The API takes no 0, so who wants none and who wants one ask the same.
#[test]
fn clients_of_different_bounds_share_one_query_and_get_each_their_own_cut() {
    let service = Service::good(|_| vec![Act::Hold, Act::Send(ok(ANSWER))]);
    let (_setup, server) = asking(&service, "");
    let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
    clients[0].ask(IAMAT);
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("WHATSAT kiwi 10 {}\n", number % 2));
    }
    wait_until(LIMIT, "all have asked", || server.log().matches(": WHATSAT kiwi 10").count() == 4);
    service.open_gate();
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.answer();
        assert_eq!((answer.results().len(), answer.status().as_str()), (number % 2, "OK"));
    }
    assert_eq!(service.requests().len(), 1);
}

#[test]
fn the_shape_is_one_of_two_and_check_shows_it() {
    let server = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:4001\"\n[places]\n";
    for (key, shape) in
        [("", "nearby"), ("shape = \"nearby\"", "nearby"), ("shape = \"service\"", "service")]
    {
        let config = Config::parse(&format!("{server}{key}")).expect("a herd");
        let shown = format!("places.shape = {shape:?}\n");
        assert!(config.summary().contains(&shown), "{}", config.summary());
    }
    let error = Config::parse(&format!("{server}shape = \"Nearby\"")).expect_err("no such shape");
    let words = "5:9: invalid `places.shape`: \"Nearby\"; expected \"nearby\" or \"service\"";
    assert!(error.to_string().ends_with(words), "{error}");
}
