//! What a server of NATS says with `-ERR`: what follows from it, and what an operator can do.

use std::borrow::Cow;

use crate::config::EngineLogin;

/// What follows from an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Only an operator can change it.
    Login,
    /// One request was refused, and will never be answered. The connection stays up.
    Permission(String),
    /// Another connection may help.
    Connection,
    /// Nothing: the server closes the connection if it wants to.
    Other,
}

/// What follows from the text of an error; `bucket` is ours.
pub(super) fn judge(text: &str, bucket: &str) -> Refusal {
    let lower = text.to_ascii_lowercase();
    let begins = |beginnings: &[&str]| beginnings.iter().any(|begin| lower.starts_with(begin));
    if begins(&["permissions violation"]) {
        Refusal::Permission(permission(text, bucket))
    } else if begins(&["authorization", "authentication", "user authentication", "account"]) {
        Refusal::Login
    } else if begins(&[
        "slow consumer",
        "stale connection",
        "maximum payload",
        "maximum connections",
        "maximum control line",
        "maximum subscriptions",
        "secure connection",
        "unknown protocol",
        "parser error",
        "server shutdown",
        "connection throttling",
    ]) {
        Refusal::Connection
    } else {
        Refusal::Other
    }
}

/// The permission that is missing, as it is written into the configuration of a server of NATS. Subjects of clients and
/// requests become a pattern: they are many.
fn permission(text: &str, bucket: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let verb = if lower.contains("for subscription") { "subscribe" } else { "publish" };
    let subject = text.split('"').nth(1).unwrap_or_default();
    let stream = format!("KV_{bucket}");
    let families = [
        format!("$KV.{bucket}."),
        format!("$JS.API.CONSUMER.CREATE.{stream}."),
        format!("$JS.API.CONSUMER.DELETE.{stream}."),
        format!("$JS.API.DIRECT.GET.{stream}."),
        format!("$JS.FC.{stream}."),
        "_INBOX.".to_owned(),
    ];
    let family = families.iter().find(|family| subject.starts_with(family.as_str()));
    let subject = match family {
        Some(family) => Cow::Owned(format!("{family}>")),
        None if subject.starts_with("$JS.API.") => Cow::Borrowed(subject),
        None => Cow::Borrowed("another subject"),
    };
    format!("{verb} {}", short(&subject))
}

/// No subject of ours is longer, and what a server of NATS sends may be.
fn short(subject: &str) -> &str {
    match subject.char_indices().nth(MAX_SUBJECT) {
        Some((end, _)) => &subject[..end],
        None => subject,
    }
}

/// What an operator can do if a server of NATS does not accept our login.
pub(super) fn remedy(login: &EngineLogin) -> &'static str {
    match login {
        EngineLogin::None => {
            "set user and password_file, token_file, nkey_file or creds_file in [engine]"
        }
        EngineLogin::Password { .. } => {
            "check user and the file of password_file in [engine] against that server's users"
        }
        EngineLogin::Token { .. } => {
            "check the file of token_file in [engine] against that server's token"
        }
        EngineLogin::Nkey { .. } => {
            "check that the public key of the seed in nkey_file of [engine] is among that server's users"
        }
        EngineLogin::Creds { .. } => {
            "check that the JWT in creds_file of [engine] is not expired or revoked, and that its account exists there"
        }
    }
}

const MAX_SUBJECT: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_consequence() {
        for (text, expected) in [
            ("Authorization Violation", Refusal::Login),
            ("Authentication Timeout", Refusal::Login),
            ("User Authentication Expired", Refusal::Login),
            ("user authentication revoked", Refusal::Login),
            ("Account Authentication Expired", Refusal::Login),
            ("Slow Consumer", Refusal::Connection),
            ("Stale Connection", Refusal::Connection),
            ("Maximum Payload Violation", Refusal::Connection),
            ("maximum connections exceeded", Refusal::Connection),
            ("Invalid Publish Subject", Refusal::Other),
            ("", Refusal::Other),
        ] {
            assert_eq!(judge(text, "herd"), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_permission_is_named_as_it_is_written_down() {
        let judged = |text: &str| match judge(text, "herd") {
            Refusal::Permission(permission) => permission,
            other => panic!("{text}: {other:?}"),
        };
        for (verb, subject, named) in [
            ("Publish to", "$KV.herd.kiwi=2Ecs", "publish $KV.herd.>"),
            ("Publish to", "$JS.API.STREAM.INFO.KV_herd", "publish $JS.API.STREAM.INFO.KV_herd"),
            (
                "Publish to",
                "$JS.API.CONSUMER.CREATE.KV_herd.m1",
                "publish $JS.API.CONSUMER.CREATE.KV_herd.>",
            ),
            ("Publish to", "$JS.FC.KV_herd.a.b", "publish $JS.FC.KV_herd.>"),
            ("Subscription to", "_INBOX.ab12.>", "subscribe _INBOX.>"),
            ("Publish to", "$KV.other.kiwi", "publish another subject"),
        ] {
            let text = format!("Permissions Violation for {verb} \"{subject}\"");
            assert_eq!(judged(&text), named, "{text}");
        }
        assert_eq!(judged("Permissions Violation"), "publish another subject");
        let long =
            format!("permissions violation for publish to \"$JS.API.{}\"", "x".repeat(5_000));
        assert!(judged(&long).len() < 200);
    }

    /// A subscription may be of a queue, which stands behind it.
    #[test]
    fn the_subject_of_a_queue_subscription_is_found() {
        let text = "Permissions Violation for Subscription to \"_INBOX.x.>\" using queue \"q\"";
        assert_eq!(judge(text, "herd"), Refusal::Permission("subscribe _INBOX.>".into()));
    }
}
