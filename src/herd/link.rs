//! The dialling side of a link: what we send a neighbour (section 4).
//!
//! A link has no queue. It has a cursor into the feed and copies entries from there while its output
//! has room, so a neighbour that is down costs nothing, and a slow one gets the newest state
//! instead of a backlog.
//!
//! ```text
//!   Waiting --its pause is over--> Dialling --connected: HELLO--> Greeting --RESUME--> Up
//!      ^                              |                              |                  |
//!      +------- failed, closed, too late, or (Up) no ACK for three heartbeats ----------+
//! ```
//!
//! A neighbour that sends us HELLO is reachable, so its HELLO ends the pause
//! ([`Link::hello_received`]).

use std::collections::VecDeque;
use std::time::Duration;

use super::entry::Entry;
use super::heartbeat::Heartbeat;
use super::status::LinkStatus;
use super::table::Table;
use super::{Event, NeighbourId, Observer, Settings};
use crate::clock::Now;
use crate::limits::{
    BACKOFF_INITIAL, BACKOFF_MAX, BACKOFF_RESET_AFTER, CONNECT_ANSWER_WAIT, FEED_RECORDS_PER_STEP,
    MARK_BYTES, MARK_UPDATES,
};
use crate::protocol::{Epoch, Seq, Update, write_mark, write_settings};

/// Our link to one neighbour.
#[derive(Clone, Debug)]
pub struct Link {
    neighbour: NeighbourId,
    state: LinkState,
    /// The pause before the next dial, without jitter.
    backoff: Duration,
    /// The neighbour's run that has sent us HELLO and has not been dialled since.
    hello_from: Option<Epoch>,
    /// Before this time, no HELLO ends a pause. Otherwise a neighbour that sends HELLO again and again,
    /// and whose port cannot be reached, would be dialled without any pause.
    pause_ends_after: Duration,
    /// The neighbour's latest run has all changes up to here.
    confirmed: Seq,
    /// Since when changes or a MARK wait for their ACK, while the link is not up.
    down_since: Duration,
    /// Why the link, or an attempt to make it, last ended.
    pub(super) down_reason: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum LinkState {
    /// Not connected; dialled at `deadline`.
    Waiting { deadline: Duration },
    /// The caller was asked to connect, and has until `deadline`.
    Dialling { since: Duration, deadline: Duration },
    /// HELLO is sent; RESUME must come before `deadline`.
    Greeting { deadline: Duration },
    /// The neighbour is sent every change.
    Up(Up),
    /// It is no neighbour any more, and its id is free. Nothing happens until the id is used again.
    Removed,
}

/// A link that is up.
#[derive(Clone, Debug)]
struct Up {
    /// The neighbour's run: updates that came from it are not sent back.
    epoch: Epoch,
    since: Duration,
    /// Whether our settings were sent.
    has_sent_settings: bool,
    /// All changes up to here were sent or skipped.
    cursor: Seq,
    /// The last MARK that was sent; none before the first.
    marked: Option<Seq>,
    marked_at: Duration,
    beat_is_due: bool,
    /// Since the last MARK.
    updates: usize,
    bytes: usize,
    /// Whether the last update has filled its batch: after such a one a neighbour that catches up expects more.
    is_batch_full: bool,
    /// Since when no ACK has come although a MARK waits for one.
    unacked_since: Option<Duration>,
    acked: Option<Seq>,
    /// MARKs that are not acknowledged, with the times at which they were sent: the oldest ones, and of those beyond
    /// [`MARKS_TIMED`] the latest.
    unacked: VecDeque<(Seq, Duration)>,
    /// Updates sent since RESUME, while the neighbour receives what it missed.
    catching_up: Option<usize>,
}

impl Link {
    pub(super) fn new(neighbour: NeighbourId, now: Duration) -> Link {
        Link {
            neighbour,
            state: LinkState::Waiting { deadline: now },
            backoff: BACKOFF_INITIAL,
            hello_from: None,
            pause_ends_after: Duration::ZERO,
            confirmed: Seq(0),
            down_since: now,
            down_reason: None,
        }
    }

    /// Its neighbour was removed.
    pub(super) fn remove(&mut self) {
        self.state = LinkState::Removed;
    }

    /// Whether its neighbour was removed.
    pub(super) fn is_removed(&self) -> bool {
        matches!(self.state, LinkState::Removed)
    }

    /// Whether the neighbour is sent every change.
    pub fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up(_))
    }

    /// Whether anything is left to write.
    pub(super) fn has_pending(&self, end: Seq) -> bool {
        match &self.state {
            LinkState::Up(up) => up.cursor < end || up.owes_mark(),
            _ => false,
        }
    }

    /// Whether the neighbour has acknowledged everything. True for a link that is not up: then there is
    /// nothing to wait for.
    pub(super) fn is_settled(&self, end: Seq) -> bool {
        match &self.state {
            LinkState::Up(up) => {
                up.cursor == end && !up.owes_mark() && up.marked.is_some() && up.acked == up.marked
            }
            _ => true,
        }
    }

    /// The age of the oldest MARK that the neighbour has not acknowledged, as far as is known.
    pub(super) fn lag(&self, now: Duration) -> Duration {
        let since = match &self.state {
            LinkState::Up(up) => up.unacked.front().map_or(now, |(_, at)| *at),
            _ => self.down_since,
        };
        now.saturating_sub(since)
    }

    /// What is known of it, for an operator.
    pub(super) fn status(&self) -> LinkStatus {
        let (state, next_dial) = match &self.state {
            LinkState::Waiting { deadline } => ("waiting", Some(*deadline)),
            LinkState::Dialling { .. } => ("dialling", None),
            LinkState::Greeting { .. } => ("greeting", None),
            LinkState::Up(_) => ("up", None),
            LinkState::Removed => ("removed", None),
        };
        let up = match &self.state {
            LinkState::Up(up) => Some(up),
            _ => None,
        };
        LinkStatus {
            state,
            since: up.map_or(self.down_since, |up| up.since),
            next_dial,
            epoch: up.map(|up| up.epoch),
            sent: up.map(|up| up.cursor),
            mark: up.and_then(|up| up.marked),
            ack: up.and_then(|up| up.acked),
            down_reason: self.down_reason,
        }
    }

    /// How many changes up to `end` the neighbour has not confirmed.
    pub(super) fn unconfirmed(&self, end: Seq) -> u64 {
        end.0.saturating_sub(self.confirmed.0)
    }

    pub(super) fn is_dialling(&self) -> bool {
        matches!(self.state, LinkState::Dialling { .. })
    }

    pub(super) fn is_greeting(&self) -> bool {
        matches!(self.state, LinkState::Greeting { .. })
    }

    pub(super) fn is_due_to_dial(&self, now: Duration) -> bool {
        matches!(self.state, LinkState::Waiting { deadline } if deadline <= now)
    }

    /// The caller is asked to connect.
    pub(super) fn dial(&mut self, timeout: Duration, now: Duration) {
        if self.is_removed() {
            return;
        }
        if self.hello_from.take().is_some() {
            self.pause_ends_after = now + self.backoff;
        }
        self.state = LinkState::Dialling { since: now, deadline: now + timeout };
    }

    /// The neighbour's run `epoch` has sent us HELLO: it is reachable, so the pause ends. An attempt to
    /// connect that got no answer from the network for a while is replaced by a new one, since it began
    /// before the neighbour could be reached. A link to another run of it sends a MARK at once: a host
    /// that has lost the connection answers with a reset.
    pub(super) fn hello_received(&mut self, epoch: Epoch, now: Duration) -> LinkAction {
        match &mut self.state {
            LinkState::Up(up) if up.epoch == epoch => {
                self.hello_from = None;
                return LinkAction::Nothing;
            }
            LinkState::Up(up) => up.beat_is_due = true,
            LinkState::Greeting { .. } => {}
            LinkState::Removed => return LinkAction::Nothing,
            LinkState::Waiting { deadline } => {
                *deadline = now.max(self.pause_ends_after).min(*deadline)
            }
            LinkState::Dialling { since, .. } => {
                self.hello_from = Some(epoch);
                let is_stuck = *since + CONNECT_ANSWER_WAIT <= now && self.pause_ends_after <= now;
                return if is_stuck {
                    LinkAction::Close(HELLO_RECEIVED)
                } else {
                    LinkAction::Nothing
                };
            }
        }
        self.hello_from = Some(epoch);
        LinkAction::Nothing
    }

    /// The connection is open, and HELLO is sent.
    pub(super) fn connected(&mut self, timeout: Duration, now: Duration) {
        self.state = LinkState::Greeting { deadline: now + timeout };
    }

    /// Handles the neighbour's RESUME: the cursor to send from, and the neighbour's epoch.
    pub(super) fn resume(&mut self, cursor: Seq, epoch: Epoch, now: Duration) {
        self.hello_from = self.hello_from.filter(|from| *from != epoch);
        self.confirmed = cursor;
        self.state = LinkState::Up(Up {
            epoch,
            since: now,
            has_sent_settings: false,
            cursor,
            marked: None,
            marked_at: now,
            beat_is_due: false,
            updates: 0,
            bytes: 0,
            is_batch_full: false,
            unacked_since: None,
            acked: None,
            unacked: VecDeque::new(),
            catching_up: Some(0),
        });
    }

    /// Handles the neighbour's ACK. One past our last MARK counts as one of the last MARK.
    pub(super) fn ack(&mut self, seq: Seq, now: Duration) {
        if let LinkState::Up(up) = &mut self.state {
            up.acked = up.marked.map(|marked| seq.min(marked));
            up.unacked_since = (up.acked < up.marked).then_some(now);
            if let Some(acked) = up.acked {
                self.confirmed = acked;
                while up.unacked.front().is_some_and(|(marked, _)| *marked <= acked) {
                    up.unacked.pop_front();
                }
            }
            // The neighbour was reached, so its next HELLO counts again.
            self.pause_ends_after = self.pause_ends_after.min(up.since + BACKOFF_INITIAL);
        }
    }

    /// The connection was closed, or could not be made. `jitter` is between 0 and 1.
    pub(super) fn closed(&mut self, jitter: f64, now: Duration) {
        if self.is_removed() {
            return;
        }
        if let LinkState::Up(up) = &self.state {
            self.down_since = up.unacked.front().map_or(now, |(_, at)| *at);
        }
        if let LinkState::Up(up) = &self.state
            && up.acked.is_some()
            && now >= up.since + BACKOFF_RESET_AFTER
        {
            self.backoff = BACKOFF_INITIAL;
        }
        // Half of the pause is fixed, half is random: servers that lost each other at the same time
        // do not dial at the same time, and none dials at once.
        let pause = self.backoff.mul_f64(0.5 + jitter / 2.0);
        let mut deadline = now + pause;
        if self.hello_from.is_some() {
            deadline = deadline.min(now.max(self.pause_ends_after));
        }
        self.state = LinkState::Waiting { deadline };
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// When the next timed action is due: a dial, a heartbeat, a timeout. None for a removed neighbour.
    pub(super) fn poll_timeout(&self, heartbeat: &Heartbeat) -> Option<Duration> {
        match &self.state {
            LinkState::Waiting { deadline }
            | LinkState::Dialling { deadline, .. }
            | LinkState::Greeting { deadline } => Some(*deadline),
            LinkState::Up(up) => {
                let beat = up.marked_at + heartbeat.interval();
                // A heartbeat that is due waits for room in the output, not for the clock.
                let beat = if up.beat_is_due { Duration::MAX } else { beat };
                Some(up.unacked_since.map_or(beat, |since| beat.min(since + heartbeat.silence())))
            }
            LinkState::Removed => None,
        }
    }

    /// The action that is due.
    pub(super) fn handle_timeout(&mut self, heartbeat: &Heartbeat, now: Duration) -> LinkAction {
        match &mut self.state {
            LinkState::Waiting { deadline } if *deadline <= now => LinkAction::Dial,
            LinkState::Dialling { deadline, .. } if *deadline <= now => {
                LinkAction::Close("it could not be reached in time")
            }
            LinkState::Greeting { deadline } if *deadline <= now => {
                LinkAction::Close("it sent no RESUME in time")
            }
            LinkState::Up(up) => {
                if up.unacked_since.is_some_and(|since| since + heartbeat.silence() <= now) {
                    return LinkAction::Close("it acknowledged nothing for three heartbeats");
                }
                up.beat_is_due |= up.marked_at + heartbeat.interval() <= now;
                LinkAction::Nothing
            }
            _ => LinkAction::Nothing,
        }
    }

    /// Appends our settings, once, before anything else.
    pub(super) fn poll_settings(
        &mut self,
        settings: &Settings,
        full: usize,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        if let LinkState::Up(up) = &mut self.state
            && !up.has_sent_settings
            && out.len() < full
        {
            up.has_sent_settings = true;
            let settings = settings.common();
            write_settings(&settings, out);
            observer.record(Event::SettingsSent { neighbour: self.neighbour, settings });
        }
    }

    /// Appends what the neighbour has not been sent, until `out` holds `full` bytes. `carrier` takes the updates.
    pub(super) fn poll_output<C: Carrier>(
        &mut self,
        table: &Table,
        full: usize,
        now: Now,
        out: &mut Vec<u8>,
        carrier: &mut C,
        observer: &mut dyn Observer,
    ) {
        let neighbour = self.neighbour;
        let LinkState::Up(up) = &mut self.state else {
            return;
        };
        let mut records = table.changes_after(up.cursor).take(FEED_RECORDS_PER_STEP);
        while out.len() < full {
            let Some((seq, entry)) = records.next() else {
                break;
            };
            up.cursor = seq;
            if let Some(entry) = entry.filter(|entry| !up.came_from(neighbour, entry)) {
                carrier.put(&entry.update, out);
                up.note_update(neighbour, entry, observer);
            }
            if up.updates >= MARK_UPDATES || up.bytes >= MARK_BYTES {
                up.write_mark(neighbour, now, out, observer);
            }
        }
        if out.len() >= full {
            return;
        }
        // The latest change may have been swept, and leave no record to walk to.
        if table.changes_after(up.cursor).next().is_none() {
            up.cursor = table.end();
        }
        let nothing_more = up.cursor == table.end() && (up.updates > 0 || up.marked.is_none());
        if nothing_more || up.beat_is_due {
            up.write_mark(neighbour, now, out, observer);
        }
        if up.cursor == table.end()
            && let Some(updates) = up.catching_up.take()
        {
            if up.is_batch_full {
                up.write_mark(neighbour, now, out, observer); // Else the neighbour waits for the rest.
            }
            observer.record(Event::CatchUpSent { neighbour, updates });
        }
    }
}

impl Up {
    fn owes_mark(&self) -> bool {
        self.beat_is_due || self.updates > 0 || self.marked.is_none() || self.catching_up.is_some()
    }

    /// Whether the entry came from this run of the neighbour. Its name is not enough: a neighbour that
    /// was restarted has forgotten what it once sent.
    fn came_from(&self, neighbour: NeighbourId, entry: &Entry) -> bool {
        entry.came_from(super::Source { neighbour, epoch: self.epoch })
    }

    fn note_update(&mut self, neighbour: NeighbourId, entry: &Entry, observer: &mut dyn Observer) {
        self.updates += 1;
        self.bytes += entry.update.line_bytes();
        self.is_batch_full = self.updates >= MARK_UPDATES || self.bytes >= MARK_BYTES;
        match &mut self.catching_up {
            Some(updates) => *updates += 1,
            None => observer.record(Event::Sending { update: &entry.update, neighbour }),
        }
    }

    fn write_mark(
        &mut self,
        neighbour: NeighbourId,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        write_mark(self.cursor, out);
        self.marked = Some(self.cursor);
        self.marked_at = now.elapsed;
        self.beat_is_due = false;
        let updates = std::mem::take(&mut self.updates);
        self.bytes = 0;
        self.unacked_since.get_or_insert(now.elapsed);
        if self.unacked.len() >= MARKS_TIMED {
            self.unacked.pop_back(); // The new one is acknowledged later, and stands for both.
        }
        self.unacked.push_back((self.cursor, now.elapsed));
        observer.record(Event::MarkSent { neighbour, seq: self.cursor, updates });
    }
}

/// What carries updates to a neighbour.
pub(super) trait Carrier {
    /// `out` is what else goes there.
    fn put(&mut self, update: &Update, out: &mut Vec<u8>);
}

/// Updates go as lines, between the other ones.
pub(super) struct AsLine;

impl Carrier for AsLine {
    fn put(&mut self, update: &Update, out: &mut Vec<u8>) {
        update.write_updateloc(out);
    }
}

/// What the herd must do for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkAction {
    Nothing,
    /// Connect it.
    Dial,
    /// Close it, for this reason.
    Close(&'static str),
}

/// Why an attempt to connect is replaced by a new one.
pub const HELLO_RECEIVED: &str = "its HELLO has come on another connection";
/// MARKs that are not acknowledged and whose time is kept. A neighbour that keeps up has few of them; of one that does not, the
/// oldest ones show how far it is behind.
const MARKS_TIMED: usize = 64;
