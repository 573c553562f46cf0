//! What lies around a point: the Places half of a WHATSAT (protocol, section 3), as values.
//!
//! ```text
//!   Area ──────> gazetteer::Gazetteer ──> answer::nearby_search ───────┐
//!                                                                      ├─ body ──> trim::trim ──> client
//!   AreaText ──> google: request ──> (TLS, elsewhere) ──> http: answer ┘               │
//!                                                                                      └ failure ──> client
//! ```
//!
//! Every answer, ours or a service's, takes the same way through [`trim`], so the two can't
//! differ in how they are cut.
//!
//! Nothing here opens a file or a socket, starts a thread, reads a clock or writes to the log.
//! Unpacking the gazetteer is the one thing that takes long (see [`gazetteer::Gazetteer::unpack`]);
//! whose thread does it, and when, is decided elsewhere.

pub mod answer;
pub mod degrees;
pub mod endpoint;
pub mod gazetteer;
pub mod google;
pub mod key;
pub mod nearby;
mod provider;
pub mod serving;
mod tree;
pub mod trim;

pub use provider::Provider;

/// The status of an answer for which there was no usable answer of the service.
pub const UNKNOWN_ERROR: &str = "UNKNOWN_ERROR";

/// What a WHATSAT asks: the places around a point.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Decimal degrees, north positive, within ±90.
    pub latitude: f64,
    /// Decimal degrees, east positive, within ±180.
    pub longitude: f64,
    /// Metres, not negative.
    pub radius: f64,
}

/// The answer where there is none: the shape and indentation of an answer without results
/// (protocol, section 3), the two newlines at its end included.
///
/// `status` is the service's own where it sent one, else [`UNKNOWN_ERROR`]; `message` says what went
/// wrong in plain words. Both may hold anything, they are escaped. Keeping the API key out of them is
/// the caller's duty.
pub fn failure(status: &str, message: &str) -> Vec<u8> {
    let (status, message) = (json_string(status), json_string(message));
    format!(
        "{{\n   \"html_attributions\" : [],\n   \"results\" : [],\n   \"status\" : {status},\n   \
         \"error_message\" : {message}\n}}\n\n"
    )
    .into_bytes()
}

/// `text` as a JSON string, quotes included.
///
/// By way of a `Value`, because its text form, other than `serde_json::to_string`, has no error that
/// would have to be explained away.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_shape_of_an_answer_and_ends_in_a_blank_line() {
        let expected = "{\n   \"html_attributions\" : [],\n   \"results\" : [],\n   \
                        \"status\" : \"UNKNOWN_ERROR\",\n   \
                        \"error_message\" : \"The service said \\\"no\\\".\\n\"\n}\n\n";
        let got = failure(UNKNOWN_ERROR, "The service said \"no\".\n");
        assert_eq!(String::from_utf8_lossy(&got), expected);
    }

    #[test]
    fn a_failure_passes_trimming_unchanged() {
        let body = failure("OVER_QUERY_LIMIT", "\r\n\u{1}\u{2028}é\\");
        assert_eq!(trim::trim(&body, "results", 20), Ok(body));
    }
}
