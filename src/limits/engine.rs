//! Limits of a member's part in an engine: what is said about the bucket on its connection.

use std::time::Duration;

/// Publishes to the engine that are not acknowledged yet: some 0.5 MB, and as many as keep a cluster busy.
pub const ENGINE_PUBLISHES: usize = 1_000;
/// The pause before something is sent to the engine once more that nobody answers while a leader is elected, or a publish
/// tries whether it does again; half of it is jitter, so that members do not ask together. A member goes on at most so
/// much later than the new leader, and a hundred members ask some 300 times a second until then.
pub const ENGINE_REPEAT_PAUSE: Duration = Duration::from_millis(500);
/// How long the engine may answer no such request before that is worth a record.
pub const ENGINE_REQUEST_WAIT: Duration = Duration::from_secs(5);
/// The same for a bucket or a consumer that is to be made: over a million clients that takes a second on a slow machine.
/// It doubles with each repeat, because without a leader no answer comes at all.
pub const ENGINE_CREATE_WAIT: Duration = Duration::from_secs(10);
/// The longest such wait.
pub const ENGINE_CREATE_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a publish, or a question for one client, may stay unanswered before it is sent again: an answer takes a
/// millisecond, and one that a leader took with it never comes.
pub const ENGINE_ACK_WAIT: Duration = Duration::from_secs(2);
/// How long it may stay unanswered although a publish that was sent later was acknowledged: a leader answers in order, so
/// the earlier one was lost, as with a leader that stood still and does not lead any more.
pub const ENGINE_LOST_AFTER: Duration = Duration::from_millis(250);
/// The longest wait for the answer to a question for one client of which the same holds: it begins with
/// [`ENGINE_LOST_AFTER`] and doubles with each repeat, because questions may take longer than publishes.
pub const ENGINE_ASKED_WAIT_MAX: Duration = Duration::from_secs(10);
/// The publishes of one client whose answers are waited for: that of an earlier one may still come.
pub const ENGINE_TRIES: usize = 4;
/// Updates that the engine does not take, of which that is known. Whoever waits for one of the others that there may be
/// waits until the timeout.
pub const ENGINE_GIVEN_UP: usize = 1_024;
/// How long the bucket's newer update of a client may take to come by itself before it is asked for.
pub const ENGINE_CONFLICT_WAIT: Duration = Duration::from_millis(500);
/// After this long a consumer that has nothing to deliver says so; after twice as long it counts as dead.
pub const ENGINE_IDLE_HEARTBEAT: Duration = Duration::from_secs(2);
/// After this long the engine removes a consumer that nobody listens to.
pub const ENGINE_CONSUMER_INACTIVE: Duration = Duration::from_secs(30);
/// The last messages that a member looks for when it follows the bucket anew, in some 50 KB: an engine that loses what it
/// has acknowledged loses the last of it.
pub const ENGINE_WITNESSES: usize = 1_024;
/// The first pause before the bucket is followed anew.
pub const ENGINE_FOLLOW_PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause: each try may leave a consumer behind for [`ENGINE_CONSUMER_INACTIVE`].
pub const ENGINE_FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A bucket that was followed for this long is followed anew after the first pause.
pub const ENGINE_FOLLOW_RESET_AFTER: Duration = Duration::from_secs(10);
/// The first pause after the engine has refused a publish, or can't be used.
pub const ENGINE_REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause: an operator who has made room waits for it.
pub const ENGINE_REFUSED_PAUSE_MAX: Duration = Duration::from_secs(30);
/// The pause after nobody has heard a publish, and half of it by chance again: an election takes seconds.
pub const ENGINE_UNHEARD_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before a bucket that is missing or does not fit is looked at again: that costs little, and an operator
/// who has mended it waits.
pub const ENGINE_LOOK_AGAIN_MAX: Duration = Duration::from_secs(5);
/// How often a member looks whether the bucket is still the one that it knows: a cache has no consumer that would tell it,
/// and a consumer that was made while the engine lost what it had may wait for numbers that are far away.
pub const ENGINE_LOOK_PAUSE: Duration = Duration::from_secs(10);
/// How long the bucket may hold less than was read of it before that is believed: a leader that has just come applies in
/// that time what the former one had acknowledged, and to read a large bucket anew takes longer.
pub const ENGINE_BEHIND_WAIT: Duration = Duration::from_secs(1);
/// If nobody hears publishes for this long, the bucket may be gone.
pub const ENGINE_UNHEARD_CHECK: Duration = Duration::from_secs(2);
/// The longest time, by chance, before a member publishes all that it knows to a bucket that it has not seen before: the
/// others then find what the first one has published.
pub const ENGINE_SPREAD: Duration = Duration::from_secs(2);
/// How long it waits for what the bucket holds before that.
pub const ENGINE_FILL_WAIT: Duration = Duration::from_secs(30);
