//! Whether a stream can serve as the herd's bucket.

use std::fmt::Write;

use super::{EngineSettings, Keep};
use crate::nats::{ReplyError, StreamConfig, StreamInfo, Version};

/// The least version of a server: earlier ones have no consumers with names, and no DIRECT.GET.
const LEAST: Version = Version(2, 9, 0);
/// Earlier servers may, in a cluster, accept an update although another one came before.
const LEAST_IN_CLUSTER: Version = Version(2, 10, 19);
/// The shortest `max_msg_size` that takes each update.
const LEAST_VALUE_BYTES: i64 = 1_024;

/// Why a server of this version can't be used, if it can't. A server that does not say its version is tried.
pub(super) fn too_old(version: Version) -> Option<String> {
    (version < LEAST && version != Version::default())
        .then(|| format!("NATS is {version}, and {LEAST} is the earliest version that can be used"))
}

/// Whether this is what is answered while a leader is elected: that there is none, or a follower's own view of the stream,
/// which may lag.
pub(super) fn is_leaderless(answer: &Result<StreamInfo, ReplyError>) -> bool {
    match answer {
        Ok(info) => info.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_empty()),
        Err(error) => error.has_no_leader(),
    }
}

/// Why the bucket can't be used: each field that must be otherwise, with both values. None if it can.
pub(super) fn refusal(config: &StreamConfig, settings: &EngineSettings) -> Option<String> {
    let wanted = StreamConfig::of_bucket(&settings.bucket, settings.replicas as u32);
    let mut wrong = String::new();
    let mut must = |is_right: bool, name: &str, is: &dyn std::fmt::Debug, must: &str| {
        if !is_right {
            let comma = if wrong.is_empty() { "" } else { ", " };
            // Writing to a string never fails.
            _ = write!(wrong, "{comma}{name} is {is:?} and must be {must}");
        }
    };
    let size = config.max_msg_size;
    let has_size = size <= 0 || size >= LEAST_VALUE_BYTES;
    let is_direct = config.allow_direct || settings.keep == Keep::All;
    let subjects = format!("{:?}", wanted.subjects);
    must(config.subjects == wanted.subjects, "subjects", &config.subjects, &subjects);
    must(config.retention == wanted.retention, "retention", &config.retention, "\"limits\"");
    must(
        config.max_msgs_per_subject == 1,
        "max_msgs_per_subject",
        &config.max_msgs_per_subject,
        "1",
    );
    must(!config.is_mirror, "mirror", &true, "false");
    must(config.sources == 0, "sources", &config.sources, "0");
    must(!config.sealed, "sealed", &config.sealed, "false");
    must(has_size, "max_msg_size", &size, "-1 or at least 1024");
    must(is_direct, "allow_direct", &config.allow_direct, "true where keep = \"cache\"");
    (!wrong.is_empty()).then(|| format!("the stream {} does not fit: {wrong}", wanted.name))
}

/// What is worth a warning in a bucket that can be used; empty if nothing is.
pub(super) fn warning(info: &StreamInfo, settings: &EngineSettings, version: Version) -> String {
    let (config, mut said) = (&info.config, Vec::new());
    if config.storage == "memory" {
        said.push("it is in memory only".to_owned());
    }
    if (config.num_replicas as usize) < settings.replicas {
        let (has, wanted) = (config.num_replicas, settings.replicas);
        said.push(format!("it has {has} replicas, and `replicas` asks for {wanted}"));
    }
    if config.max_age > 0 {
        let seconds = config.max_age / 1_000_000_000;
        said.push(format!("it deletes updates that are older than {seconds} s (max_age)"));
    }
    if config.max_bytes > 0 && config.discard == "new" {
        let bytes = config.max_bytes;
        said.push(format!(
            "once it holds {bytes} bytes it takes no update (max_bytes, discard new)"
        ));
    }
    if config.num_replicas > 1 && version < LEAST_IN_CLUSTER && version != Version::default() {
        said.push(format!(
            "NATS is {version}, which in a cluster may take an older update for a newer one; \
             {LEAST_IN_CLUSTER} does not"
        ));
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(keep: Keep) -> EngineSettings {
        EngineSettings {
            bucket: "herd".to_owned(),
            replicas: 3,
            create: true,
            keep,
            inbox: "_INBOX.1".to_owned(),
            seed: 1,
        }
    }

    fn as_made() -> StreamConfig {
        StreamConfig::of_bucket("herd", 3)
    }

    #[test]
    fn the_bucket_that_we_make_fits_and_is_worth_no_warning() {
        for keep in [Keep::All, Keep::Cache] {
            assert_eq!(refusal(&as_made(), &settings(keep)), None);
        }
        let info = StreamInfo { config: as_made(), ..StreamInfo::default() };
        assert_eq!(warning(&info, &settings(Keep::All), Version(2, 10, 19)), "");
        let old = warning(&info, &settings(Keep::All), Version(2, 10, 18));
        assert!(old.starts_with("NATS is 2.10.18, "), "{old}");
        assert_eq!(too_old(Version(2, 9, 0)), None);
        assert!(too_old(Version(2, 8, 4)).is_some_and(|why| why.contains("2.8.4")));
    }

    #[test]
    fn each_field_that_does_not_fit_is_named_with_both_values() {
        let foreign = StreamConfig {
            subjects: vec!["$KV.herd.>".to_owned(), "orders".to_owned()],
            retention: "workqueue".to_owned(),
            max_msgs_per_subject: 5,
            max_msg_size: 512,
            sealed: true,
            is_mirror: true,
            sources: 2,
            allow_direct: false,
            ..as_made()
        };
        let text = refusal(&foreign, &settings(Keep::Cache)).expect("a refusal");
        for part in [
            "the stream KV_herd does not fit: ",
            "subjects is [\"$KV.herd.>\", \"orders\"] and must be [\"$KV.herd.>\"], ",
            "retention is \"workqueue\" and must be \"limits\", ",
            "max_msgs_per_subject is 5 and must be 1, ",
            "mirror is true and must be false, ",
            "sources is 2 and must be 0, ",
            "sealed is true and must be false, ",
            "max_msg_size is 512 and must be -1 or at least 1024, ",
            "allow_direct is false and must be true where keep = \"cache\"",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let only_direct = StreamConfig { allow_direct: false, ..as_made() };
        assert_eq!(refusal(&only_direct, &settings(Keep::All)), None);
    }

    #[test]
    fn a_bucket_that_keeps_less_than_was_asked_for_is_worth_a_warning() {
        let config = StreamConfig {
            storage: "memory".to_owned(),
            num_replicas: 1,
            max_age: 60_000_000_000,
            max_bytes: 1_000,
            ..as_made()
        };
        let info = StreamInfo { config, ..StreamInfo::default() };
        let text = warning(&info, &settings(Keep::All), Version(2, 9, 10));
        for part in ["in memory only", "1 replicas", "`replicas` asks for 3", "60 s", "1000 bytes"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("NATS is"), "one server alone takes no older update: {text}");
    }
}
