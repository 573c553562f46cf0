//! Places near a point: the Places half of a WHATSAT (protocol, section 3), as values.
//!
//! ```text
//!   Area ──────> gazetteer::Gazetteer ──> answer::trimmed ──────────────────────────────────> client
//!   AreaText ──> google: request ──> (TLS, elsewhere) ──> http: answer ── body ──> trim::trim ──> client
//!                                                                                      └ failure ──> client
//! ```
//!
//! A service's answer goes through [`trim`]; ours is written as [`trim`] would cut it.
//!
//! Nothing here opens a file or a socket, starts a thread, reads a clock or writes to the log.
//! Only making the gazetteer ready takes long (see [`gazetteer::Gazetteer::unpack`]); which thread does it,
//! and when, is decided elsewhere.

pub mod answer;
pub mod degrees;
pub mod endpoint;
pub mod gazetteer;
pub mod google;
pub mod key;
mod list;
pub mod nearby;
mod provider;
mod scan;
mod table;
mod tree;
pub mod trim;

pub use provider::Provider;

/// The status of an answer if the service gave no usable one.
pub const UNKNOWN_ERROR: &str = "UNKNOWN_ERROR";

/// The area of a WHATSAT: a point and a radius.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Decimal degrees, north positive, within ±90.
    pub latitude: f64,
    /// Decimal degrees, east positive, within ±180.
    pub longitude: f64,
    /// Metres, not negative.
    pub radius: f64,
}

/// The answer to a failed query: the shape and indentation of an answer without results (protocol,
/// section 3), with the two newlines at its end.
///
/// `status` is the service's own if it sent one, else [`UNKNOWN_ERROR`]; `message` explains the failure.
/// Both may contain any text: they are escaped. The caller keeps the API key out of them.
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
/// By a `Value`, because its text form cannot fail, unlike `serde_json::to_string`.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The same, appended.
fn write_json_string(text: &str, out: &mut Vec<u8>) {
    // A Vec takes everything, and a str is always valid JSON.
    let _ = serde_json::to_writer(out, text);
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
