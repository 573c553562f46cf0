//! An answer of the Places API (New) in the shape of Nearby Search, which is what the herd's clients
//! read (protocol, section 3).
//!
//! ```text
//!   places[]                         results[]
//!     location.latitude, .longitude    geometry.location.lat, .lng
//!     displayName.text                 name
//!     id                               place_id
//!     types                            types
//!     shortFormattedAddress            vicinity
//!     attributions[]                 html_attributions[], of all places
//! ```
//!
//! Numbers and strings keep the service's own bytes: 1.50 stays 1.50, and `\u00e9` stays `\u00e9`. Only
//! attributions are rewritten, because they become HTML. A member that a place does not have is left out;
//! a member of another type makes the answer unusable.
//!
//! Promises: any input gives a result or an [`InvalidAnswer`], in time linear in its length, with no stack
//! that grows with its depth. The result is at most twice as long as the kept part of the body, and
//! some KiB more.

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json_string;
use super::trim::{InvalidAnswer, ParsedAnswer};
use crate::limits::ATTRIBUTION_BYTES;

/// The list of an answer in the shape of Nearby Search.
pub const LIST: &str = "results";

/// An answer of the New API in the shape of Nearby Search, with its first places, as many as `body` was
/// read for.
pub fn rewritten(body: &ParsedAnswer<'_>) -> Result<Vec<u8>, InvalidAnswer> {
    let mut attributions = Attributions::default();
    let mut results = Vec::new();
    for element in body.elements() {
        results.push(result(element, &mut attributions)?);
    }
    let status = if body.is_empty() { "ZERO_RESULTS" } else { "OK" };
    let results = match results.join(",\n") {
        none if none.is_empty() => "[]".to_owned(),
        some => format!("[\n{some}\n   ]"),
    };
    let attributions =
        list(&attributions.found.iter().map(|it| json_string(it)).collect::<Vec<_>>());
    let text = format!(
        "{{\n   \"html_attributions\" : {attributions},\n   \"results\" : {results},\n   \
         \"status\" : \"{status}\"\n}}\n"
    );
    Ok(text.into_bytes())
}

/// One element of `results`, indented as in the answer.
fn result(place: &str, attributions: &mut Attributions) -> Result<String, InvalidAnswer> {
    let place: NewPlace<'_> =
        object(place, "a place in it is not an object, or has a duplicate key")?;
    if let Some(raw) = place.attributions {
        attributions.add(raw)?;
    }
    let mut members = Vec::with_capacity(5);
    if let Some(location) = place.location {
        let what = "a place's location is not a pair of numbers";
        let LatLng { latitude, longitude } = object(location.get(), what)?;
        // One without the other is not a point.
        if let (Some(lat), Some(lng)) = (latitude, longitude) {
            let (lat, lng) = (number(lat, what)?, number(lng, what)?);
            members.push(format!(
                "\"geometry\" : {{\n            \"location\" : {{\n               \"lat\" : {lat},\n\
                 \x20              \"lng\" : {lng}\n            }}\n         }}"
            ));
        }
    }
    if let Some(name) = place.display_name {
        let what = "a place's displayName has no text";
        let DisplayName { text } = object(name.get(), what)?;
        if let Some(text) = text {
            members.push(format!("\"name\" : {}", string(text.get(), what)?));
        }
    }
    if let Some(id) = place.id {
        members
            .push(format!("\"place_id\" : {}", string(id.get(), "a place's id is not a string")?));
    }
    if let Some(types) = place.types {
        members.push(format!("\"types\" : {}", texts(types, "a place's types are not strings")?));
    }
    if let Some(address) = place.short_formatted_address {
        let what = "a place's shortFormattedAddress is not a string";
        members.push(format!("\"vicinity\" : {}", string(address.get(), what)?));
    }
    Ok(match members.join(",\n         ") {
        none if none.is_empty() => "      {}".to_owned(),
        some => format!("      {{\n         {some}\n      }}"),
    })
}

/// The attributions that must be shown with the places, as HTML, each once.
#[derive(Default)]
struct Attributions {
    found: Vec<String>,
    bytes: usize,
}

impl Attributions {
    /// Adds those of one place.
    fn add(&mut self, raw: &RawValue) -> Result<(), InvalidAnswer> {
        let what = "a place's attributions are not a list of providers";
        each(raw, what, |element| {
            let Attribution { provider, provider_uri } = object(element, what)?;
            let length = |text: Option<&RawValue>| text.map_or(0, |text| text.get().len());
            self.bytes += length(provider) + length(provider_uri);
            if self.bytes > ATTRIBUTION_BYTES {
                return Err(InvalidAnswer::BadPlace { what: "its attributions are too long" });
            }
            let decoded = |raw: &RawValue| {
                serde_json::from_str::<String>(raw.get())
                    .map_err(|_| InvalidAnswer::BadPlace { what })
            };
            let provider = provider.map(decoded).transpose()?;
            let uri = provider_uri.map(decoded).transpose()?;
            let html = html(provider.as_deref(), uri.as_deref());
            if let Some(html) = html.filter(|html| !self.found.contains(html)) {
                self.found.push(html);
            }
            Ok(())
        })
    }
}

/// A provider's name, with a link if it has a page, as Nearby Search writes it.
fn html(provider: Option<&str>, uri: Option<&str>) -> Option<String> {
    let is_page = |uri: &&str| {
        let scheme = uri.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        matches!(scheme.as_deref(), Some("https" | "http"))
    };
    let text = escaped(provider.or(uri)?);
    Some(match uri.filter(is_page) {
        Some(uri) => format!("<a href=\"{}\">{text}</a>", escaped(uri)),
        None => text,
    })
}

/// Text, escaped for HTML.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// An array of texts in one line; each keeps its bytes.
fn texts(raw: &RawValue, what: &'static str) -> Result<String, InvalidAnswer> {
    let mut line = String::new();
    each(raw, what, |element| {
        line.push_str(if line.is_empty() { "[ " } else { ", " });
        line.push_str(string(element, what)?);
        Ok(())
    })?;
    line.push_str(if line.is_empty() { "[]" } else { " ]" });
    Ok(line)
}

fn list(elements: &[String]) -> String {
    if elements.is_empty() { "[]".to_owned() } else { format!("[ {} ]", elements.join(", ")) }
}

/// Valid JSON is a text if it begins with a quote.
fn string<'b>(json: &'b str, what: &'static str) -> Result<&'b str, InvalidAnswer> {
    if json.starts_with('"') { Ok(json) } else { Err(InvalidAnswer::BadPlace { what }) }
}

fn number<'b>(raw: &'b RawValue, what: &'static str) -> Result<&'b str, InvalidAnswer> {
    let is_number = raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if is_number { Ok(raw.get()) } else { Err(InvalidAnswer::BadPlace { what }) }
}

/// An object's members. (serde would also accept an array for a struct.)
fn object<'b, T: Deserialize<'b>>(json: &'b str, what: &'static str) -> Result<T, InvalidAnswer> {
    let bad = InvalidAnswer::BadPlace { what };
    if json.starts_with('{') { serde_json::from_str(json).map_err(|_| bad) } else { Err(bad) }
}

/// Visits the elements of an array one by one: a vector of all of them would be several times as large as
/// their text.
fn each<'b>(
    raw: &'b RawValue,
    what: &'static str,
    with: impl FnMut(&'b str) -> Result<(), InvalidAnswer>,
) -> Result<(), InvalidAnswer> {
    let mut result = Ok(());
    let is_array =
        serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Each(with, &mut result));
    result.and(is_array.map_err(|_| InvalidAnswer::BadPlace { what }))
}

struct Each<'r, F>(F, &'r mut Result<(), InvalidAnswer>);

impl<'b, F: FnMut(&'b str) -> Result<(), InvalidAnswer>> Visitor<'b> for Each<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'b>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<&'b RawValue>()? {
            if self.1.is_ok() {
                *self.1 = (self.0)(element.get());
            }
        }
        Ok(())
    }
}

/// A place of the New API: the requested fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewPlace<'b> {
    #[serde(borrow)]
    id: Option<&'b RawValue>,
    #[serde(borrow)]
    display_name: Option<&'b RawValue>,
    #[serde(borrow)]
    location: Option<&'b RawValue>,
    #[serde(borrow)]
    types: Option<&'b RawValue>,
    #[serde(borrow)]
    short_formatted_address: Option<&'b RawValue>,
    #[serde(borrow)]
    attributions: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct LatLng<'b> {
    #[serde(borrow)]
    latitude: Option<&'b RawValue>,
    #[serde(borrow)]
    longitude: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct DisplayName<'b> {
    #[serde(borrow)]
    text: Option<&'b RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attribution<'b> {
    #[serde(borrow)]
    provider: Option<&'b RawValue>,
    #[serde(borrow)]
    provider_uri: Option<&'b RawValue>,
}
