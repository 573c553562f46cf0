//! The Places server's answers to requests, in the form of Google's two APIs. It handles the requests
//! that our own client sends and those that a careful person would try with curl, and no others.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::http::Request;
use crate::places::gazetteer::Gazetteer;
use crate::places::google::{Api, Shape};
use crate::places::key::ApiKey;
use crate::places::{Area, answer, failure};

/// An answer: the HTTP status and the body.
pub type Reply = (u16, Vec<u8>);

/// Answers a request. If there is a `key`, the request must contain it.
pub fn reply(request: &Request, gazetteer: &Gazetteer, key: Option<&ApiKey>) -> Reply {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match (request.method.as_str(), path) {
        ("GET", NEARBY_SEARCH) => (200, nearby_search(query, gazetteer, key)),
        ("POST", NEW) => search_nearby(request, gazetteer, key),
        (_, NEARBY_SEARCH | NEW) => refused(405, "METHOD_NOT_ALLOWED", "the method is wrong"),
        _ => refused(404, "NOT_FOUND", "there is nothing here"),
    }
}

/// The request's method and target, without the key, for the log.
pub fn first_words(request: &Request) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let shown: Vec<_> = query.split('&').filter(|field| !field.starts_with("key=")).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{} {path}{mark}{}", request.method, shown.join("&"))
}

fn nearby_search(query: &str, gazetteer: &Gazetteer, key: Option<&ApiKey>) -> Vec<u8> {
    let field = |name: &str| {
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        let value = fields.filter(|(key, _)| *key == name).map(|(_, value)| value).next()?;
        Some(percent_decode_str(value).decode_utf8().ok()?.into_owned())
    };
    if key.is_some_and(|key| field("key").as_deref() != Some(key.expose())) {
        return failure("REQUEST_DENIED", "The provided API key is invalid.");
    }
    let asked = || {
        let location = field("location")?;
        let (latitude, longitude) = location.split_once(',')?;
        let radius = field("radius")?.parse().ok()?;
        circle(latitude.parse().ok()?, longitude.parse().ok()?, radius)
    };
    match asked() {
        Some(query) => answer::nearby_search(gazetteer, &query),
        None => {
            failure("INVALID_REQUEST", "Give location=latitude,longitude and radius in metres.")
        }
    }
}

fn search_nearby(request: &Request, gazetteer: &Gazetteer, key: Option<&ApiKey>) -> Reply {
    if key.is_some_and(|key| request.key.as_deref() != Some(key.expose())) {
        return refused(403, "PERMISSION_DENIED", "The X-Goog-Api-Key is invalid.");
    }
    let asked = || {
        let asked: SearchBody = serde_json::from_slice(&request.body).ok()?;
        let CircleBody { center, radius } = asked.restriction.circle;
        let most = asked.most.unwrap_or(answer::MAX_RESULTS);
        let query = circle(center.latitude, center.longitude, radius)?;
        (1..=answer::MAX_RESULTS).contains(&most).then_some((query, most))
    };
    match asked() {
        Some((query, most)) => (200, answer::new_api(gazetteer, &query, most, &request.fields)),
        None => refused(400, "INVALID_ARGUMENT", "The body is not a search in a circle."),
    }
}

/// A query within the same bounds that Google sets.
fn circle(latitude: f64, longitude: f64, radius: f64) -> Option<Area> {
    let fits =
        latitude.abs() <= 90.0 && longitude.abs() <= 180.0 && (0.0..=MAX_RADIUS).contains(&radius);
    fits.then_some(Area { latitude, longitude, radius })
}

/// A refusal as the New API writes it.
fn refused(code: u16, status: &str, message: &str) -> Reply {
    let body = format!(
        "{{\n  \"error\": {{\n    \"code\": {code},\n    \"message\": \"{message}\",\n    \
         \"status\": \"{status}\"\n  }}\n}}\n"
    );
    (code, body.into_bytes())
}

/// The body of a request to the New API.
#[derive(Deserialize)]
struct SearchBody {
    #[serde(rename = "maxResultCount")]
    most: Option<usize>,
    #[serde(rename = "locationRestriction")]
    restriction: Restriction,
}

#[derive(Deserialize)]
struct Restriction {
    circle: CircleBody,
}

#[derive(Deserialize)]
struct CircleBody {
    center: Center,
    radius: f64,
}

#[derive(Deserialize)]
struct Center {
    latitude: f64,
    longitude: f64,
}

/// The path of Google's Nearby Search; ours has the same path.
const NEARBY_SEARCH: &str = Api::NearbySearch.path();
const NEW: &str = Api::New(Shape::Service).path();
/// Metres.
const MAX_RADIUS: f64 = 50_000.0;
