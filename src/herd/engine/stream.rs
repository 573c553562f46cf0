//! The bucket's stream: whether it is there and fits, and whether it is the one that was followed before.
//!
//! When it was made tells one stream from the next of its name, as a neighbour's epoch tells its runs. If it is another one,
//! or holds less than was read of it before (it was put back from a backup), nothing that was known of it holds: it is read
//! from the beginning, and all that this server knows is compared with it.
//!
//! A leader that has just come may not have applied yet what the former one had acknowledged (NATS before 2.11 answers all
//! the same). So a bucket that holds less than was read of it is looked at again for a while before that is believed.

use std::time::Duration;

use super::requests::{Asked, Kind, Series};
use super::{Engine, EngineEvent, bucket};
use crate::herd::{Event, Herd, Observer};
use crate::limits::{
    ENGINE_BEHIND_WAIT, ENGINE_CREATE_WAIT, ENGINE_CREATE_WAIT_MAX, ENGINE_LOOK_AGAIN_MAX,
    ENGINE_LOOK_PAUSE, ENGINE_REFUSED_PAUSE, ENGINE_REPEAT_PAUSE, ENGINE_SPREAD,
    ENGINE_UNHEARD_PAUSE,
};
use crate::nats::{Answer, ApiError, Message, ReplyError, StreamConfig, StreamInfo};

/// What is known of the stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// When the stream that is followed was made, as the server writes it; None if none is known.
    created: Option<String>,
    /// Whether it has been looked at on this connection, and can be used.
    pub is_usable: bool,
    refused: Option<String>,
    /// Its STREAM.INFO, while that is unanswered: without a leader nobody answers.
    looks: Option<Series>,
    /// Its STREAM.CREATE, while that is unanswered.
    creates: Option<Asked>,
    /// When it is asked for again.
    again_at: Option<Duration>,
    /// The next pause before that.
    pause: Duration,
    create_wait: Duration,
    warned: String,
    /// Whether the engine deletes nothing by itself.
    pub keeps_for_ever: bool,
    /// The greatest number of a message that was known when the stream was asked for.
    known: u64,
    /// Since when it has held less than that.
    behind_since: Option<Duration>,
    /// Its leader when it last held all of that; empty if that is unknown, or on another connection.
    leader: String,
}

impl Stream {
    pub fn new() -> Stream {
        Stream {
            keeps_for_ever: false,
            known: 0,
            behind_since: None,
            leader: String::new(),
            created: None,
            is_usable: false,
            refused: None,
            looks: None,
            creates: None,
            again_at: None,
            pause: ENGINE_REFUSED_PAUSE,
            create_wait: ENGINE_CREATE_WAIT,
            warned: String::new(),
        }
    }

    /// Why it can't be used, if it can't.
    pub fn refusal(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Whatever is found next is not what was followed.
    pub fn is_another(&mut self) {
        self.created = None;
    }

    /// It is not asked for again on this connection.
    pub fn asks_nothing(&mut self) {
        self.again_at = None;
    }

    /// The connection is closed: the answers that were waited for do not come.
    pub fn closed(&mut self) {
        (self.is_usable, self.refused, self.again_at) = (false, None, None);
        (self.looks, self.creates, self.behind_since) = (None, None, None);
        self.leader.clear();
        self.pause = ENGINE_REFUSED_PAUSE;
    }

    /// Whether it seems to hold less than was known of it, and only for so short a time that its leader may be new.
    fn may_lag(&mut self, info: &StreamInfo, now: Duration) -> bool {
        let is_known = self.created.as_ref() == Some(&info.created);
        if !is_known || info.state.last_seq >= self.known {
            return false;
        }
        let since = *self.behind_since.get_or_insert(now);
        now < since + ENGINE_BEHIND_WAIT
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let looks = self.looks.as_ref().map(|series| series.again_at);
        let creates = self.creates.map(|asked| asked.until);
        looks.into_iter().chain(creates).chain(self.again_at).min()
    }
}

impl Engine {
    /// Asks for the stream, unless that is under way.
    pub(super) fn ask_for_stream(&mut self, now: Duration) {
        if self.stream.looks.is_none() && self.stream.creates.is_none() {
            self.stream.again_at = None;
            self.stream.known = self.follower.greatest_known();
            let number = self.request_stream();
            let again_at = now + self.repeat_pause();
            self.stream.looks = Some(Series::begin(number, now, again_at));
        }
    }

    fn request_stream(&mut self) -> u64 {
        self.requests.ask(Kind::StreamInfo, &self.bucket.stream_info, b"")
    }

    /// The pause before something is tried again for which there may have been no leader.
    pub(super) fn repeat_pause(&mut self) -> Duration {
        ENGINE_REPEAT_PAUSE / 2 + self.by_chance(ENGINE_REPEAT_PAUSE / 2)
    }

    fn create_stream(&mut self, now: Duration) {
        let config = StreamConfig::of_bucket(&self.settings.bucket, self.settings.replicas as u32);
        let subject = &self.bucket.stream_create;
        let number = self.requests.ask(Kind::CreateStream, subject, &config.to_json());
        let until = now + self.stream.create_wait;
        self.stream.creates = Some(Asked { number, until });
    }

    /// The answer to the request of this kind and number.
    pub(super) fn stream_answered(
        &mut self,
        kind: Kind,
        number: u64,
        message: &Message<'_>,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        let is_awaited = match kind {
            Kind::CreateStream => self.stream.creates.is_some_and(|asked| asked.number == number),
            _ => self.stream.looks.as_ref().is_some_and(|series| series.has(number)),
        };
        if !is_awaited {
            return;
        }
        let answer = StreamInfo::read(message);
        if kind == Kind::StreamInfo && bucket::is_leaderless(&answer) {
            return; // As good as no answer. It is asked for again soon.
        }
        (self.stream.looks, self.stream.creates) = (None, None);
        let error = match answer {
            Ok(info) => {
                if kind == Kind::CreateStream {
                    self.stream.create_wait = ENGINE_CREATE_WAIT;
                    observer.record(Event::Engine(EngineEvent::BucketMade));
                }
                return self.stream_found(&info, herd, now, observer);
            }
            Err(error) => error,
        };
        let reason = match error.api_code() {
            Some(ApiError::STREAM_NOT_FOUND) => {
                // Whatever is made by this name next is another one.
                self.stream.created = None;
                if self.settings.create && kind == Kind::StreamInfo {
                    self.stream.is_usable = false;
                    return self.create_stream(now);
                }
                let name = &self.bucket.name;
                format!("there is no bucket {name}, and `create` is false: it is waited for")
            }
            // Another member has made it just now.
            Some(ApiError::STREAM_EXISTS) if kind == Kind::CreateStream => {
                self.stream.again_at = Some(now + self.by_chance(ENGINE_UNHEARD_PAUSE));
                return;
            }
            Some(code) if ApiError::NO_JETSTREAM.contains(&code) => NO_JETSTREAM.to_owned(),
            _ if error.is_no_responders() => NO_JETSTREAM.to_owned(),
            _ => reason_of(kind, &error),
        };
        self.refuse(reason, now, observer);
    }

    /// The bucket can't be used; it is asked for again after a pause.
    pub(super) fn refuse(&mut self, reason: String, now: Duration, observer: &mut dyn Observer) {
        self.refuse_for(reason, false, now, observer);
    }

    fn refuse_for(
        &mut self,
        reason: String,
        is_misfit: bool,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        self.stream.is_usable = false;
        self.follower_stops();
        self.stream.again_at = Some(now + self.stream.pause);
        self.stream.pause = (2 * self.stream.pause).min(ENGINE_LOOK_AGAIN_MAX);
        if self.stream.refused.as_ref() != Some(&reason) {
            let is_misfit = is_misfit && !self.is_known_bucket;
            observer.record(Event::Engine(EngineEvent::Refused { reason: &reason, is_misfit }));
            self.stream.refused = Some(reason);
        }
    }

    fn stream_found(
        &mut self,
        info: &StreamInfo,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        if let Some(reason) = bucket::refusal(&info.config, &self.settings) {
            return self.refuse_for(reason, true, now, observer);
        }
        let warning = bucket::warning(info, &self.settings, self.version);
        if warning != self.stream.warned {
            if !warning.is_empty() {
                let event = EngineEvent::Unfit { warning: &warning };
                observer.record(Event::Engine(event));
            }
            self.stream.warned = warning;
        }
        self.stream.refused = None;
        if self.stream.may_lag(info, now) {
            self.stream.again_at = Some(now + self.repeat_pause());
            return;
        }
        let was_behind = self.stream.behind_since.take().is_some();
        let leader = info.cluster.as_ref().map_or("", |cluster| &cluster.leader);
        // A leader that has not changed has lost nothing: it answers with what it had a moment ago.
        let may_have_lost = leader.is_empty() || *leader != self.stream.leader;
        leader.clone_into(&mut self.stream.leader);
        self.stream.pause = ENGINE_REFUSED_PAUSE;
        self.stream.is_usable = true;
        self.stream.keeps_for_ever = info.config.max_age == 0 && info.config.discard != "old";
        let is_the_same = self.stream.created.as_ref() == Some(&info.created)
            && info.state.last_seq >= self.stream.known;
        if !is_the_same {
            self.stream.created = Some(info.created.clone());
            self.begin_generation(herd, now, observer);
        } else if was_behind && may_have_lost && !self.is_cache() {
            // Others may have published as much again as was lost: the next consumer begins with what was known.
            self.follower_stops();
        }
        self.stream.again_at = Some(now + ENGINE_LOOK_PAUSE);
        if self.is_cache() {
            self.can_ask(now, observer);
            self.look_for_witnesses(herd, now);
        } else {
            self.follow_if_due(now);
        }
    }

    /// The bucket is one that is not known yet.
    fn begin_generation(&mut self, herd: &mut Herd, now: Duration, observer: &mut dyn Observer) {
        if self.is_known_bucket {
            observer.record(Event::Engine(EngineEvent::BucketReplaced));
            herd.table.forget_remembered();
            self.remembered_since = now;
        }
        self.is_known_bucket = true;
        herd.table.kept.forget_bucket();
        self.questions.begin_anew();
        self.follower_begins_anew();
        let spread = self.by_chance(ENGINE_SPREAD);
        self.publisher.begin_generation(herd.table.end(), now, spread);
    }

    pub(super) fn stream_timeouts(&mut self, now: Duration, observer: &mut dyn Observer) {
        if let Some(mut series) = self.stream.looks.take_if(|series| series.again_at <= now) {
            let number = self.request_stream();
            let again_at = now + self.repeat_pause();
            if series.repeat(number, now, again_at) {
                let request = "STREAM.INFO";
                observer.record(Event::Engine(EngineEvent::NoAnswer { request }));
            }
            self.stream.looks = Some(series);
        }
        if self.stream.creates.take_if(|asked| asked.until <= now).is_some() {
            let wait = (2 * self.stream.create_wait).min(ENGINE_CREATE_WAIT_MAX);
            self.stream.create_wait = wait;
            let request = "STREAM.CREATE";
            observer.record(Event::Engine(EngineEvent::NoAnswer { request }));
            self.ask_for_stream(now);
        }
        if self.stream.again_at.is_some_and(|at| at <= now) {
            self.ask_for_stream(now);
        }
    }
}

const NO_JETSTREAM: &str = "the server offers no JetStream to this account";

fn reason_of(kind: Kind, error: &ReplyError) -> String {
    match kind {
        Kind::CreateStream => format!("the bucket can't be made: {error}"),
        _ => format!("the bucket can't be looked at: {error}"),
    }
}
