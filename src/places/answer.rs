//! The answers of the provider `offline`: the gazetteer's places in the form of Google's Nearby Search, and
//! for our own Places server in that of the New API, too.
//!
//! The keys and the indentation are the same (three spaces, a space before the colon), so that only the
//! attribution shows a client which provider answered. A client gets what [`super::trim`] would leave of the
//! whole answer for its bound, written at once: to write all of it, to parse it and to cut it takes three times
//! as long.

use super::degrees::write_number;
use super::gazetteer::{Gazetteer, Place};
use super::{Area, json_string, write_json_string};

/// As many results as one page of Nearby Search has: the greatest bound of a WHATSAT.
pub const MAX_RESULTS: usize = 20;

/// The body of a Nearby Search answer to `query`: at most [`MAX_RESULTS`] places, nearest first,
/// status OK or ZERO_RESULTS.
pub fn nearby_search(gazetteer: &Gazetteer, query: &Area) -> Vec<u8> {
    write(&gazetteer.nearest(query, MAX_RESULTS), MAX_RESULTS)
}

/// The same, trimmed to the first `bound` places.
pub fn trimmed(gazetteer: &Gazetteer, query: &Area, bound: usize) -> Vec<u8> {
    // Without a place to show, the status still says whether there is one.
    let mut answer = write(&gazetteer.nearest(query, bound.clamp(1, MAX_RESULTS)), bound);
    answer.push(b'\n');
    answer
}

fn write(places: &[Place<'_>], bound: usize) -> Vec<u8> {
    let status = if places.is_empty() { "ZERO_RESULTS" } else { "OK" };
    let shown = &places[..places.len().min(bound)];
    let mut out = Vec::with_capacity(HEAD_BYTES + shown.len() * RESULT_BYTES);
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("{\n   \"html_attributions\" : [ \"");
    put(ATTRIBUTION);
    put("\" ],\n   \"results\" : [");
    for (number, place) in shown.iter().enumerate() {
        out.extend_from_slice(if number == 0 { b"\n" } else { b",\n" });
        write_result(place, &mut out);
    }
    out.extend_from_slice(if shown.is_empty() { b"" } else { b"\n   " });
    out.extend_from_slice(b"],\n   \"status\" : \"");
    out.extend_from_slice(status.as_bytes());
    out.extend_from_slice(b"\"\n}\n");
    out
}

/// The body of a Places API (New) answer to `query`: at most `most` places, nearest first, each with the
/// members that the field mask `fields` names. Without places it has no list.
pub fn new_api(gazetteer: &Gazetteer, query: &Area, most: usize, fields: &str) -> Vec<u8> {
    let fields = if fields.is_empty() { DEFAULT_FIELDS } else { fields };
    let places = gazetteer.nearest(query, most.min(MAX_RESULTS));
    let places: Vec<_> = places.iter().map(|found| place(found, fields)).collect();
    let text = match places.join(",\n") {
        none if none.is_empty() => "{}\n".to_string(),
        some => format!("{{\n  \"places\": [\n{some}\n  ]\n}}\n"),
    };
    text.into_bytes()
}

/// One element of `places`, indented as in the answer.
fn place(place: &Place<'_>, fields: &str) -> String {
    let Place { latitude, longitude, geonames_id, .. } = place;
    let country = json_string(place.country);
    let members = [
        ("id", format!("\"geonames:{geonames_id}\"")),
        ("types", "[\n        \"locality\",\n        \"political\"\n      ]".to_string()),
        ("formattedAddress", country.clone()),
        (
            "location",
            format!(
                "{{\n        \"latitude\": {latitude},\n        \"longitude\": {longitude}\n      }}"
            ),
        ),
        ("displayName", format!("{{\n        \"text\": {}\n      }}", json_string(place.name))),
        ("shortFormattedAddress", country),
        (
            "attributions",
            format!(
                "[\n        {{\n          \"provider\": \"{ATTRIBUTION}\"\n        }}\n      ]"
            ),
        ),
    ];
    let asked = members.iter().filter(|(name, _)| is_requested(name, fields));
    let lines: Vec<_> = asked.map(|(name, value)| format!("      \"{name}\": {value}")).collect();
    format!("    {{\n{}\n    }}", lines.join(",\n"))
}

/// Whether a field mask names a place's member, or a part of it.
fn is_requested(member: &str, fields: &str) -> bool {
    fields.split(',').map(str::trim).any(|field| match field.strip_prefix("places.") {
        Some(path) => path.split('.').next() == Some(member),
        None => field == "*" || field == "places",
    })
}

/// Appends one element of `results`, indented as in the answer. The vicinity is the country's code, because the
/// data has nothing more precise.
fn write_result(place: &Place<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"      {\n         \"geometry\" : {\n            \"location\" : {\n               \"lat\" : ",
    );
    place.latitude.write(out);
    out.extend_from_slice(b",\n               \"lng\" : ");
    place.longitude.write(out);
    out.extend_from_slice(b"\n            }\n         },\n         \"name\" : ");
    write_json_string(place.name, out);
    out.extend_from_slice(b",\n         \"place_id\" : \"geonames:");
    write_number(place.geonames_id, 1, out);
    out.extend_from_slice(b"\",\n");
    // Google has no such key. GeoNames has 0 for an unknown number; printing it would be wrong.
    if place.population > 0 {
        out.extend_from_slice(b"         \"population\" : ");
        write_number(place.population, 1, out);
        out.extend_from_slice(b",\n");
    }
    out.extend_from_slice(
        b"         \"types\" : [ \"locality\", \"political\" ],\n         \"vicinity\" : ",
    );
    write_json_string(place.country, out);
    out.extend_from_slice(b"\n      }");
}

/// GeoNames requires its name wherever its data is shown.
const ATTRIBUTION: &str = "GeoNames, CC BY 4.0";
/// An answer without results takes less.
const HEAD_BYTES: usize = 128;
/// As many bytes as a result takes, with a name of usual length.
const RESULT_BYTES: usize = 320;
/// The fields of an answer to a request without a field mask. (Google refuses such a request.)
const DEFAULT_FIELDS: &str =
    "places.id,places.types,places.formattedAddress,places.location,places.displayName";

#[cfg(test)]
mod tests {
    use super::*;

    const SOUTH: Area = Area { latitude: -55.0, longitude: -67.6, radius: 20_000.0 };

    #[test]
    fn an_answer_is_laid_out_like_googles() {
        let gazetteer = Gazetteer::read(
            "-54.93355\t-67.60963\tPuerto \"W\"\tCL\t2000\t3874926\n\
             -55.00001\t-67.60000\tNobody\\s\tAR\t0\t7\n",
        );
        let expected = r#"{
   "html_attributions" : [ "GeoNames, CC BY 4.0" ],
   "results" : [
      {
         "geometry" : {
            "location" : {
               "lat" : -55.00001,
               "lng" : -67.60000
            }
         },
         "name" : "Nobody\\s",
         "place_id" : "geonames:7",
         "types" : [ "locality", "political" ],
         "vicinity" : "AR"
      },
      {
         "geometry" : {
            "location" : {
               "lat" : -54.93355,
               "lng" : -67.60963
            }
         },
         "name" : "Puerto \"W\"",
         "place_id" : "geonames:3874926",
         "population" : 2000,
         "types" : [ "locality", "political" ],
         "vicinity" : "CL"
      }
   ],
   "status" : "OK"
}
"#;
        assert_eq!(String::from_utf8_lossy(&nearby_search(&gazetteer, &SOUTH)), expected);
    }

    #[test]
    fn a_trimmed_answer_is_what_trimming_leaves_of_the_whole_one() {
        let all = Gazetteer::unpack();
        let places = [(48.8566, 2.3522), (-54.9, -67.6), (0.0, -140.0), (64.15, -21.94)];
        for (latitude, longitude) in places {
            for radius in [0.0, 5_000.0, 20_000.0, 49_890.0] {
                let query = Area { latitude, longitude, radius };
                let whole = nearby_search(&all, &query);
                for bound in [0, 1, 2, 19, 20] {
                    let trimmed = super::super::trim::trim(&whole, "results", bound);
                    assert_eq!(
                        Ok(super::trimmed(&all, &query, bound)),
                        trimmed,
                        "{query:?} {bound}"
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_near_is_zero_results() {
        let expected = r#"{
   "html_attributions" : [ "GeoNames, CC BY 4.0" ],
   "results" : [],
   "status" : "ZERO_RESULTS"
}
"#;
        let answer = nearby_search(&Gazetteer::read(""), &SOUTH);
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
}
