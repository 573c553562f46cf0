//! Google's two APIs for places: the requests, and reading the answers.
//!
//! ```text
//!                   Nearby Search (legacy)              Places API (New)
//!   request    GET …?location=&radius=&key=        POST, key and fields in headers, JSON body
//!   list       "results"                           "places", left out if it is empty
//!   failure    HTTP 200, "status", "error_message"  HTTP 4xx, "error" {"status", "message"}
//! ```
//! A usable answer is passed on byte for byte, only trimmed; an answer of the New API may instead be rewritten
//! into the shape of Nearby Search ([`nearby`]). The status and message of a failure are printed again in either
//! case.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::endpoint::Endpoint;
use super::key::ApiKey;
use super::trim::{InvalidAnswer, ParsedAnswer, ValidAnswer};
use super::{UNKNOWN_ERROR, failure, nearby};
use crate::http::Response;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Nearby Search, which Google no longer enables for new projects.
    NearbySearch,
    /// The Places API (New), whose answers reach the client in this shape.
    New(Shape),
}

/// The shape of an answer to a WHATSAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// That of Nearby Search, which the herd's clients know: `results`, `status`, `html_attributions`.
    Nearby,
    /// The service's own, byte for byte.
    Service,
}

impl Shape {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Shape::Nearby => "nearby",
            Shape::Service => "service",
        }
    }

    /// The fields of each place that are requested from the New API. Attributions must be shown wherever the
    /// place is.
    const fn fields(self) -> &'static str {
        match self {
            Shape::Nearby => {
                "places.id,places.displayName,places.shortFormattedAddress,places.location,places.types,\
                 places.attributions"
            }
            Shape::Service => {
                "places.id,places.displayName,places.formattedAddress,places.location,places.types"
            }
        }
    }

    /// A shape by its name.
    pub fn named(name: &str) -> Option<Shape> {
        [Shape::Nearby, Shape::Service].into_iter().find(|shape| shape.name() == name)
    }
}

/// The area of a request, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AreaText {
    /// Decimal degrees, with the client's own digits where it gave such.
    pub latitude: String,
    pub longitude: String,
    /// Metres; at least 1, because neither API takes 0.
    pub radius: u32,
}

/// The meaning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'b> {
    /// It is passed on, trimmed. If the service has refused the request, its status and message are here for the
    /// log.
    Places { usable: ValidAnswer<'b>, refusal: Option<Failure> },
    /// It is not passed on.
    Failed(Failure),
}

/// Why there are no places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The service's own status, or [`UNKNOWN_ERROR`].
    pub status: String,
    /// In plain words.
    pub message: String,
}

impl Api {
    /// Where Google answers.
    pub fn endpoint(self) -> Endpoint {
        let host = match self {
            Api::NearbySearch => "maps.googleapis.com",
            Api::New(_) => "places.googleapis.com",
        };
        Endpoint { host: host.to_owned(), port: 443, path: self.path().to_owned() }
    }

    /// The path of its URL there.
    pub const fn path(self) -> &'static str {
        match self {
            Api::NearbySearch => "/maps/api/place/nearbysearch/json",
            Api::New(_) => "/v1/places:searchNearby",
        }
    }

    /// The whole request. `bound` is the maximal number of places, for the API that has a parameter for it.
    pub fn request(
        self,
        endpoint: &Endpoint,
        key: Option<&ApiKey>,
        circle: &AreaText,
        bound: usize,
    ) -> Vec<u8> {
        let AreaText { latitude, longitude, radius } = circle;
        let (host, path) = (endpoint.authority(), &endpoint.path);
        let text = match self {
            Api::NearbySearch => {
                let encoded =
                    |key: &ApiKey| utf8_percent_encode(key.expose(), RESERVED).to_string();
                let key = key.map(|key| format!("&key={}", encoded(key)));
                let key = key.unwrap_or_default();
                format!(
                    "GET {path}?location={latitude},{longitude}&radius={radius}{key} HTTP/1.1\r\n\
                     Host: {host}\r\n{COMMON_HEADERS}\r\n"
                )
            }
            Api::New(shape) => {
                let fields = shape.fields();
                let key = key.map(|key| format!("X-Goog-Api-Key: {}\r\n", key.expose()));
                let key = key.unwrap_or_default();
                let body = new_body(circle, bound);
                format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}\r\n{COMMON_HEADERS}{key}\
                     X-Goog-FieldMask: {fields}\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
        };
        text.into_bytes()
    }

    /// Interprets the service's answer, for clients that asked for at most `most` places.
    pub fn read<'b>(self, response: &'b Response, key: Option<&ApiKey>, most: usize) -> Answer<'b> {
        let body = &response.body;
        if key.is_some_and(|key| key.is_in(body)) {
            return Answer::invalid("the Places service's answer holds the API key");
        }
        let read = ParsedAnswer::read(body, self.list(), most);
        let refusal = read.as_ref().ok().and_then(|body| self.refusal(body));
        match (response.status, refusal) {
            (200, refusal) => {
                match (self, read.and_then(|body| self.usable(body, most)), refusal) {
                    // In the shape of Nearby Search nothing of the error would be left.
                    (Api::New(Shape::Nearby), Ok(_), Some(refusal)) => Answer::Failed(refusal),
                    (_, Ok(usable), refusal) => Answer::Places { usable, refusal },
                    (_, Err(InvalidAnswer::NoList { .. }), Some(refusal)) => {
                        Answer::Failed(refusal)
                    }
                    // The New API leaves an empty list out.
                    (Api::New(Shape::Service), Err(InvalidAnswer::NoList { .. }), None) => {
                        Answer::Places { usable: ValidAnswer::without_list(body), refusal: None }
                    }
                    (_, Err(reason), _) => Answer::invalid(&reason.to_string()),
                }
            }
            (_, Some(refusal)) => Answer::Failed(refusal),
            (status @ 300..=399, None) => {
                let text = format!("HTTP status {status}, a redirect, which is not followed");
                Answer::invalid(&text)
            }
            (status, None) => Answer::invalid(&format!("HTTP status {status}")),
        }
    }

    /// The part of a body that is passed on.
    fn usable(self, body: ParsedAnswer<'_>, most: usize) -> Result<ValidAnswer<'_>, InvalidAnswer> {
        if self != Api::New(Shape::Nearby) {
            return body.usable();
        }
        // An empty list is left out, and then the object has no other members.
        if !body.has_list() && body.has_members() {
            return body.usable();
        }
        ValidAnswer::made(nearby::rewritten(&body)?, nearby::LIST, most)
    }

    fn list(self) -> &'static str {
        match self {
            Api::NearbySearch => "results",
            Api::New(_) => "places",
        }
    }

    /// The service's own report of a failure, if there is one.
    fn refusal(self, body: &ParsedAnswer<'_>) -> Option<Failure> {
        let (status, message) = match self {
            Api::NearbySearch => (body.member("status")?, body.member("error_message")),
            Api::New(_) => {
                let ErrorObject { status, message } = body.member("error")?;
                (status?, message)
            }
        };
        if status == "OK" || status == "ZERO_RESULTS" {
            return None;
        }
        let message = message.unwrap_or_else(|| "the Places service gave no reason".to_owned());
        Some(Failure { status: cut(status), message: cut(message) })
    }
}

impl Answer<'_> {
    fn invalid(message: &str) -> Self {
        Answer::Failed(Failure::unknown(message))
    }
}

impl Failure {
    /// A failure for which the service has no status of its own.
    pub fn unknown(message: &str) -> Failure {
        Failure { status: UNKNOWN_ERROR.to_owned(), message: message.to_owned() }
    }

    /// The body for the client.
    pub fn body(&self) -> Vec<u8> {
        failure(&self.status, &self.message)
    }
}

/// The New API's report of a failure.
#[derive(Deserialize)]
struct ErrorObject {
    status: Option<String>,
    message: Option<String>,
}

fn new_body(circle: &AreaText, bound: usize) -> String {
    let (latitude, longitude) = (json_number(&circle.latitude), json_number(&circle.longitude));
    format!(
        "{{\"maxResultCount\":{},\"locationRestriction\":{{\"circle\":{{\"center\":\
         {{\"latitude\":{latitude},\"longitude\":{longitude}}},\"radius\":{}}}}}}}",
        bound.max(1), // 0 would mean "as many as there are": one place is requested, and none shown
        circle.radius
    )
}

/// A decimal number without leading zeros, which JSON does not allow.
fn json_number(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let significant = digits.trim_start_matches('0');
    let zero = if significant.is_empty() || significant.starts_with('.') { "0" } else { "" };
    format!("{sign}{zero}{significant}")
}

/// A service's text, cut to the length of a message.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE_CHARACTERS) {
        text.truncate(end);
    }
    text
}

/// No encoding, because the body is passed on as it is. The connection is kept, as HTTP/1.1 does.
const COMMON_HEADERS: &str = concat!(
    "Accept: application/json\r\nAccept-Encoding: identity\r\nUser-Agent: herd-mio/",
    env!("CARGO_PKG_VERSION"),
    "\r\n"
);
const MAX_MESSAGE_CHARACTERS: usize = 500;

/// The characters that are encoded in a query's value: all but the unreserved ones (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_unreserved_characters_are_percent_encoded() {
        let encoded = |text| utf8_percent_encode(text, RESERVED).to_string();
        assert_eq!(encoded("aZ0-._~"), "aZ0-._~");
        assert_eq!(encoded("a,b+é %&=/\n"), "a%2Cb%2B%C3%A9%20%25%26%3D%2F%0A");
    }

    const NEW: Api = Api::New(Shape::Service);

    fn circle() -> AreaText {
        let (latitude, longitude) = ("-00.50".to_owned(), "118.445127".to_owned());
        AreaText { latitude, longitude, radius: 16_093 }
    }

    fn endpoint(api: Api) -> Endpoint {
        Endpoint { host: "localhost".into(), port: 8443, path: api.path().into() }
    }

    /// The answer for a client that asked for two places, or a failure as text.
    fn read(api: Api, status: u16, body: &str) -> (Option<String>, Option<Failure>) {
        let key = ApiKey::parse(b"s/3cret").expect("a key");
        let response = Response { status, body: body.as_bytes().to_vec(), may_reuse: true };
        match api.read(&response, Some(&key), 2) {
            Answer::Places { usable, refusal } => {
                (Some(String::from_utf8(usable.trim(2)).expect("text")), refusal)
            }
            Answer::Failed(failure) => (None, Some(failure)),
        }
    }

    fn failed(status: &str, message: &str) -> Failure {
        Failure { status: status.into(), message: message.into() }
    }

    #[test]
    fn nearby_search_is_asked_with_the_clients_own_digits() {
        let key = ApiKey::parse(b"a+b").expect("a key");
        let api = Api::NearbySearch;
        let request = api.request(&endpoint(api), Some(&key), &circle(), 5);
        let expected = concat!(
            "GET /maps/api/place/nearbysearch/json?location=-00.50,118.445127&radius=16093&key=a%2Bb ",
            "HTTP/1.1\r\nHost: localhost:8443\r\nAccept: application/json\r\n",
            "Accept-Encoding: identity\r\nUser-Agent: herd-mio/",
            env!("CARGO_PKG_VERSION"),
            "\r\n\r\n",
        );
        assert_eq!(String::from_utf8_lossy(&request), expected);
    }

    #[test]
    fn a_request_to_the_new_api_is_a_post_with_the_key_in_a_header() {
        let key = ApiKey::parse(b"a+b").expect("a key");
        for (bound, most) in [(0, 1), (5, 5)] {
            let request = NEW.request(&endpoint(NEW), Some(&key), &circle(), bound);
            let text = String::from_utf8(request).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(
                head.starts_with(
                    "POST /v1/places:searchNearby HTTP/1.1\r\nHost: localhost:8443\r\n"
                )
            );
            for header in ["X-Goog-Api-Key: a+b", "X-Goog-FieldMask: places.id,"] {
                assert!(head.contains(&format!("\r\n{header}")), "{header}: {head}");
            }
            assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())));
            let expected = format!(
                "{{\"maxResultCount\":{most},\"locationRestriction\":{{\"circle\":{{\"center\":\
                 {{\"latitude\":-0.50,\"longitude\":118.445127}},\"radius\":16093}}}}}}"
            );
            assert_eq!(body, expected);
        }
        for (own, json) in [("00", "0"), ("-000.5", "-0.5"), ("-07", "-7"), ("10.0", "10.0")] {
            assert_eq!(json_number(own), json);
        }
    }

    #[test]
    fn an_error_of_the_service_keeps_its_status() {
        let denied = r#"{"results": [], "status": "REQUEST_DENIED", "error_message": "No."}"#;
        let refusal = Some(failed("REQUEST_DENIED", "No."));
        let passed_on = Some(format!("{denied}\n\n"));
        assert_eq!(read(Api::NearbySearch, 200, denied), (passed_on, refusal));
        let bare = r#"{"status": "OVER_QUERY_LIMIT"}"#;
        let failure = failed("OVER_QUERY_LIMIT", "the Places service gave no reason");
        assert_eq!(read(Api::NearbySearch, 200, bare), (None, Some(failure)));
        let error = r#"{"error": {"code": 403, "message": "No.", "status": "PERMISSION_DENIED"}}"#;
        for status in [200, 403] {
            let failure = failed("PERMISSION_DENIED", "No.");
            assert_eq!(read(NEW, status, error), (None, Some(failure)));
        }
    }

    #[test]
    fn a_failure_is_reported_to_the_client() {
        let body = String::from_utf8(failed("OVER_QUERY_LIMIT", "No.").body()).expect("text");
        assert!(body.contains("\"OVER_QUERY_LIMIT\"") && body.contains("\"No.\""), "{body}");
    }

    #[test]
    fn unusable_answers_report_a_reason() {
        let body = r#"{"results": [], "status": "OK"}"#;
        assert_eq!(read(Api::NearbySearch, 200, body), (Some(format!("{body}\n\n")), None));
        for (status, body, message) in [
            (500, "oops", "HTTP status 500"),
            (302, "", "HTTP status 302, a redirect, which is not followed"),
            (204, "", "HTTP status 204"),
            (
                200,
                "{",
                "The Places service's answer is unusable: it is not JSON (line 1, column 1).",
            ),
            (200, "{}", "The Places service's answer is unusable: it has no \"results\"."),
            (
                200,
                r#"{"results": ["s\/3\u0063ret"]}"#,
                "the Places service's answer holds the API key",
            ),
        ] {
            let failure = failed(UNKNOWN_ERROR, message);
            assert_eq!(read(Api::NearbySearch, status, body), (None, Some(failure)), "{body}");
        }
    }

    #[test]
    fn the_new_api_may_leave_its_list_out() {
        let passed_on = |text: &str| (Some(text.to_owned()), None);
        assert_eq!(read(NEW, 200, "\n{}\n"), passed_on("{}\n\n"));
        let list = r#"{"places": [1, 2, 3]}"#;
        assert_eq!(read(NEW, 200, list), passed_on("{\"places\": [1, 2]}\n\n"));
    }
}
