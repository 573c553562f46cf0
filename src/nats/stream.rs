//! A stream: how it is configured, and what it holds.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::connect::or_default;

/// The configuration of a stream, as far as a bucket has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamConfig {
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub subjects: Vec<String>,
    /// "limits", "interest" or "workqueue".
    pub retention: String,
    pub max_consumers: i64,
    /// -1: without a bound.
    pub max_msgs: i64,
    /// -1: without a bound.
    pub max_bytes: i64,
    /// Nanoseconds; 0: without a bound.
    pub max_age: u64,
    /// -1 or 0: without a bound.
    pub max_msgs_per_subject: i64,
    /// -1: without a bound.
    pub max_msg_size: i64,
    /// "file" or "memory".
    pub storage: String,
    /// "new" or "old": what a full stream does without.
    pub discard: String,
    pub num_replicas: u32,
    /// Nanoseconds.
    pub duplicate_window: u64,
    pub allow_direct: bool,
    pub allow_rollup_hdrs: bool,
    pub deny_delete: bool,
    /// No message is taken any more.
    #[serde(skip_serializing)]
    pub sealed: bool,
    /// Whether it is a copy of another stream.
    #[serde(skip_serializing, rename = "mirror", deserialize_with = "is_there")]
    pub is_mirror: bool,
    /// How many streams it collects.
    #[serde(skip_serializing, rename = "sources", deserialize_with = "how_many")]
    pub sources: usize,
}

impl StreamConfig {
    /// The bucket of this name, as it is made.
    pub fn of_bucket(bucket: &str, replicas: u32) -> StreamConfig {
        StreamConfig {
            name: super::stream_name(bucket),
            subjects: vec![format!("$KV.{bucket}.>")],
            retention: "limits".to_owned(),
            max_consumers: -1,
            max_msgs: -1,
            max_bytes: -1,
            max_age: 0,
            max_msgs_per_subject: 1,
            max_msg_size: -1,
            storage: "file".to_owned(),
            discard: "new".to_owned(),
            num_replicas: replicas,
            duplicate_window: 120_000_000_000,
            allow_direct: true,
            allow_rollup_hdrs: true,
            deny_delete: true,
            ..StreamConfig::default()
        }
    }

    /// The body of the request that makes it.
    pub fn to_json(&self) -> Vec<u8> {
        // Each field is a text, a number or a bool: that can't fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StreamState {
    pub messages: u64,
    pub bytes: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub num_subjects: u64,
    pub consumer_count: u64,
}

/// The answer to STREAM.INFO and STREAM.CREATE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StreamInfo {
    pub config: StreamConfig,
    pub state: StreamState,
    /// When the stream was made, as the server writes it; see [`StreamInfo::created_at`]. Another one of the same name has
    /// another time.
    pub created: String,
    /// The servers that have copies; None where there is no cluster.
    pub cluster: Option<ClusterInfo>,
}

impl StreamInfo {
    /// When the stream was made, in nanoseconds since 1970; None if the text is no time.
    pub fn created_at(&self) -> Option<i64> {
        let time: jiff::Timestamp = self.created.parse().ok()?;
        time.as_nanosecond().try_into().ok()
    }
}

/// Who leads a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClusterInfo {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// Empty while there is none.
    #[serde(deserialize_with = "or_default")]
    pub leader: String,
}

/// Whether anything but null stands there.
fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}

/// The length of a list; null is an empty one.
fn how_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    Ok(Option::<Vec<IgnoredAny>>::deserialize(deserializer)?.map_or(0, |list| list.len()))
}
