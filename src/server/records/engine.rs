//! The records of what the herd's core does with the engine.

use std::net::SocketAddr;
use std::time::Duration;

use super::record_applied;
use crate::herd::engine::EngineEvent;
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, IdBase64, TO_ENGINE, Traffic, field, target};

/// Writes what happened between the server of this name and its engine.
pub(super) fn note(name: &str, event: &EngineEvent<'_>) {
    match *event {
        EngineEvent::Sending { update } => {
            let update = update.get();
            Traffic::Engine.sending(update.id, update.location, TO_ENGINE);
        }
        EngineEvent::Received { update, applied } => record_applied(update.id, applied),
        EngineEvent::InSync => log::info!(
            target: target::ENGINE, event = "engine_in_sync"; "{name} is in sync with the engine."
        ),
        EngineEvent::CanAsk => log::info!(
            target: target::ENGINE, event = "engine_can_ask"; "{name} can ask the engine."
        ),
        EngineEvent::BucketMade => log::info!(
            target: target::ENGINE, event = "engine_bucket_made";
            "The engine had no bucket; {name} has made it."
        ),
        EngineEvent::FollowedAnew { reason } => log::info!(
            target: target::ENGINE, event = "engine_followed_anew", reason = reason;
            "The engine's bucket is followed anew: {reason}."
        ),
        EngineEvent::Repairing { update } => {
            let (id, base64) = (Escaped(update.get().id), IdBase64(update.get().id));
            log::info!(
                target: target::ENGINE, event = "engine_repair", id:% = id, id_base64:% = base64;
                "The engine's bucket held an older update of {id}; the newer one is published again."
            );
        }
        EngineEvent::Forgotten { id } => {
            let (id, base64) = (Escaped(id), IdBase64(id));
            log::info!(
                target: target::ENGINE, event = "engine_client_deleted", id:% = id, id_base64:% = base64;
                "{id} was deleted in the engine's bucket, and is forgotten."
            );
        }
        event => warn(event),
    }
}

/// A query was not answered by the engine for too long.
pub(in crate::server) fn query_given_up(peer: SocketAddr, waited: Duration) {
    let seconds = waited.as_secs();
    let text = format_args!(
        "{peer} gets no answer: the engine has not said for {seconds} s what it has of a client; the connection is closed"
    );
    rate_limit::warn(Kind::AnswerGivenUp, &[field("peer", &peer)], text);
}

/// A client that the cache holds is asked for, and the engine can't be.
pub(in crate::server) fn answered_from_cache(peer: SocketAddr) {
    let text = format_args!(
        "The engine does not answer: {peer} gets what the cache has of a client, and another member may know more"
    );
    rate_limit::warn(Kind::EngineCacheAnswers, &[field("peer", &peer)], text);
}

/// An IAMAT waits, because each client of the cache has an update that the engine is not known to have.
pub(in crate::server) fn no_room(peer: SocketAddr) {
    let text = format_args!(
        "{peer} waits: the cache (max_clients) has no room, because of none of its clients it is known yet that the engine has \
         its update"
    );
    rate_limit::warn(Kind::EngineNoRoom, &[field("peer", &peer)], text);
}

/// It has waited for too long.
pub(in crate::server) fn room_given_up(peer: SocketAddr, waited: Duration) {
    let seconds = waited.as_secs();
    let text = format_args!(
        "{peer} gets no answer: the cache had no room for its update for {seconds} s, and it is not stored; the connection is \
         closed"
    );
    rate_limit::warn(Kind::AnswerGivenUp, &[field("peer", &peer)], text);
}

/// What an operator should see.
fn warn(event: EngineEvent<'_>) {
    match event {
        EngineEvent::Refused { reason, .. } => rate_limit::warn(
            Kind::EngineRefused,
            &[field("reason", &reason)],
            format_args!("The engine can't be used: {reason}. It is tried again."),
        ),
        EngineEvent::Unfit { warning } => rate_limit::warn(
            Kind::EngineUnfit,
            &[field("reason", &warning)],
            format_args!("The engine's bucket is used, but {warning}."),
        ),
        EngineEvent::BucketReplaced => rate_limit::warn(
            Kind::EngineReplaced,
            &[],
            format_args!(
                "The engine's bucket is another one than before, or was put back to an older state. What it lacks is \
                 published again."
            ),
        ),
        EngineEvent::NoAnswer { request } => rate_limit::warn(
            Kind::EngineSilent,
            &[],
            format_args!("The engine does not answer {request}. It is asked again."),
        ),
        EngineEvent::Skipped { key, sequence, reason } => rate_limit::warn(
            Kind::EngineValueSkipped,
            &[field("reason", &reason)],
            format_args!(
                "Skipped the value of {} in the engine's bucket (sequence {sequence}): {reason}.",
                Escaped(key)
            ),
        ),
        EngineEvent::PublishRefused { id, reason } => rate_limit::warn(
            Kind::EnginePublishRefused,
            &[field("reason", &reason)],
            format_args!(
                "The engine has refused an update of {}: {reason}. It is published again.",
                Escaped(id)
            ),
        ),
        EngineEvent::GivenUp { id, reason } => rate_limit::warn(
            Kind::EngineGivenUp,
            &[field("reason", &reason)],
            format_args!(
                "The engine does not take an update of {}: {reason}. It is not published again.",
                Escaped(id)
            ),
        ),
        _ => {}
    }
}
