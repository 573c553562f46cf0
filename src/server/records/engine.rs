//! The records of what the herd's core does with the engine.

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
