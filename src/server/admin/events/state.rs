//! What the events say, as JSON. Ids and texts are shown as the log shows them: escaped, and never as HTML.

use serde::Serialize;

use super::clients::{ClientMap, DotShown, MapChanges};
use super::herd::HerdMap;
use crate::logging::{Escaped, TailRecord};

/// `state`: everything.
#[derive(Serialize)]
pub(super) struct State<'a> {
    pub(super) server: &'a str,
    pub(super) version: &'a str,
    pub(super) epoch: String,
    /// Whether ids and positions are shown.
    pub(super) positions: bool,
    pub(super) herd: &'a HerdMap,
    pub(super) numbers: Numbers,
    pub(super) links: Vec<LinkShown<'a>>,
    /// The durations of the latest turns in microseconds, the oldest first.
    pub(super) turns: Vec<f64>,
    pub(super) map: Option<MapShown>,
    pub(super) log: Vec<RecordShown>,
}

/// `delta`: what has changed.
#[derive(Serialize)]
pub(super) struct Delta<'a> {
    pub(super) numbers: Numbers,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) links: Option<Vec<LinkShown<'a>>>,
    pub(super) turns: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) map: Option<MapShown>,
}

/// Numbers and words that each event has.
#[derive(Serialize)]
pub(super) struct Numbers {
    pub(super) time: Option<String>,
    /// Seconds.
    pub(super) uptime: f64,
    /// `running`, `draining` or `stopping`.
    pub(super) phase: &'static str,
    /// What is wrong, in words; nothing if all is well.
    pub(super) trouble: Vec<String>,
    /// Known clients.
    pub(super) clients: usize,
    /// Connected ones.
    pub(super) connections: u64,
    /// Lines of clients since the start.
    pub(super) lines: u64,
    pub(super) loops: usize,
    /// What keeps updates outside the process, if anything does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<KeptShown>,
}

/// The state directory and the engine.
#[derive(Serialize)]
pub(super) struct KeptShown {
    /// Answers that wait for one of them.
    pub(super) held: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk: Option<DiskShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) engine: Option<EngineShown>,
}

/// The state directory.
#[derive(Serialize)]
pub(super) struct DiskShown {
    /// Whether answers wait for it.
    pub(super) ack: bool,
    pub(super) failing: bool,
    /// Changes that are not committed yet.
    pub(super) unwritten: u64,
    pub(super) bytes: u64,
    /// How long the last commit took, in seconds.
    pub(super) commit: f64,
    /// Why it is failing, if it is.
    pub(super) reason: Option<String>,
}

/// The engine, of all loops together.
#[derive(Serialize)]
pub(super) struct EngineShown {
    /// Whether answers wait for it.
    pub(super) ack: bool,
    /// Of the loop that is furthest behind: `disconnected`, `refused`, `filling` or `in_sync`.
    pub(super) state: &'static str,
    /// Where the first loop is connected, and the version of that server.
    pub(super) address: Option<String>,
    pub(super) version: Option<String>,
    /// Messages of the bucket that were not read yet.
    pub(super) pending: u64,
    /// Publishes that are not acknowledged yet.
    pub(super) in_flight: u64,
    /// Why it can't be used, if it can't.
    pub(super) reason: Option<String>,
}

/// The links with one neighbour.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::server::admin) struct LinkShown<'a> {
    pub(in crate::server::admin) neighbour: &'a str,
    /// Both directions are up.
    pub(in crate::server::admin) up: bool,
    /// The link on which we send: `up`, `dialling` and so on.
    pub(in crate::server::admin) out: &'static str,
    /// The one on which we receive: `up` or `down`.
    #[serde(rename = "in")]
    pub(in crate::server::admin) inbound: &'static str,
    /// In seconds, to a tenth.
    pub(in crate::server::admin) lag: f64,
    /// Why it is down, if that is known.
    pub(in crate::server::admin) reason: Option<String>,
}

/// Clients on the map, all or those that have changed.
#[derive(Serialize)]
pub(super) struct MapShown {
    /// How many were counted so far.
    counted: usize,
    /// Number, latitude, longitude and id of each.
    dots: Vec<(u32, f64, f64, String)>,
    /// Numbers of dots that are none any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<u32>,
    /// Cells of one degree, by rows from the north-west, each as its number and its count.
    cells: Vec<(u16, u32)>,
}

/// A record of the log, in an event `log`: its number, the milliseconds since 1970, level, target and text.
#[derive(Serialize)]
pub(super) struct RecordShown(u64, i64, &'static str, &'static str, String);

impl RecordShown {
    pub(super) fn new(record: TailRecord) -> RecordShown {
        let TailRecord { number, time, level, target, text } = record;
        RecordShown(number, time, level, target, text)
    }
}

impl MapShown {
    pub(super) fn all(map: &mut ClientMap) -> MapShown {
        let slots = map.all_dots();
        let cells = map.all_cells();
        MapShown::new(map, &MapChanges { dots: slots, gone: Vec::new(), cells })
    }

    /// None if there are none.
    pub(super) fn changes(map: &mut ClientMap) -> Option<MapShown> {
        let changes = map.take_changes();
        let MapChanges { dots, gone, cells } = &changes;
        let is_empty = dots.is_empty() && gone.is_empty() && cells.is_empty();
        (!is_empty).then(|| MapShown::new(map, &changes))
    }

    fn new(map: &ClientMap, changes: &MapChanges) -> MapShown {
        let dots = changes.dots.iter().filter_map(|slot| map.dot(*slot)).map(dot);
        let (gone, cells) = (changes.gone.clone(), changes.cells.clone());
        MapShown { counted: map.counted(), dots: dots.collect(), gone, cells }
    }
}

fn dot((slot, place, id): DotShown<'_>) -> (u32, f64, f64, String) {
    // A ten-thousandth of a degree is ten metres.
    let rounded = |degrees: f64| (degrees * 1e4).round() / 1e4;
    (slot, rounded(place.latitude), rounded(place.longitude), Escaped(id).to_string())
}

/// An event as a stream gets it.
pub(super) fn event(name: &str, data: &impl Serialize) -> Vec<u8> {
    let mut event = format!("event: {name}\ndata: ").into_bytes();
    // Only maps with other keys than texts fail. JSON has no line feed in it.
    if serde_json::to_writer(&mut event, data).is_err() {
        return b": an event could not be written\n\n".to_vec();
    }
    event.extend_from_slice(b"\n\n");
    event
}
