//! The answers of the provider `offline`: the gazetteer's places in the form of Google's Nearby Search, and
//! for our own Places server in that of the New API, too.
//!
//! The keys and the indentation are the same (three spaces, a space before the colon), so that only the
//! attribution shows a client which provider answered. It is the whole answer, as a service would send it:
//! [`super::trim`] cuts it to the client's bound.

use super::gazetteer::{Gazetteer, Place};
use super::{Area, json_string};

/// As many results as one page of Nearby Search has: the greatest bound of a WHATSAT.
pub const MAX_RESULTS: usize = 20;

/// The body of a Nearby Search answer to `query`: at most [`MAX_RESULTS`] places, nearest first,
/// status OK or ZERO_RESULTS.
pub fn nearby_search(gazetteer: &Gazetteer, query: &Area) -> Vec<u8> {
    let places = gazetteer.nearest(query, MAX_RESULTS);
    let status = if places.is_empty() { "ZERO_RESULTS" } else { "OK" };
    let results = match places.iter().map(result).collect::<Vec<_>>().join(",\n") {
        none if none.is_empty() => "[]".to_string(),
        some => format!("[\n{some}\n   ]"),
    };
    format!(
        r#"{{
   "html_attributions" : [ "{ATTRIBUTION}" ],
   "results" : {results},
   "status" : "{status}"
}}
"#
    )
    .into_bytes()
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

/// One element of `results`, indented as in the answer. The vicinity is the country's code, because the
/// data has nothing more precise.
fn result(place: &Place<'_>) -> String {
    let Place { latitude, longitude, geonames_id, .. } = place;
    let (name, vicinity) = (json_string(place.name), json_string(place.country));
    // Google has no such key. GeoNames has 0 for an unknown number; printing it would be wrong.
    let population = match place.population {
        0 => String::new(),
        known => format!("         \"population\" : {known},\n"),
    };
    format!(
        r#"      {{
         "geometry" : {{
            "location" : {{
               "lat" : {latitude},
               "lng" : {longitude}
            }}
         }},
         "name" : {name},
         "place_id" : "geonames:{geonames_id}",
{population}         "types" : [ "locality", "political" ],
         "vicinity" : {vicinity}
      }}"#
    )
}

/// GeoNames requires its name wherever its data is shown.
const ATTRIBUTION: &str = "GeoNames, CC BY 4.0";
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
