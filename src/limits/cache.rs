//! Limits of a member that keeps a cache of what the engine holds.

use std::time::Duration;

/// Questions for clients that a cache has sent to the engine and that are not answered yet: as many as keep a cluster busy.
/// Those beyond them wait, one for each connection at the most.
pub const ENGINE_QUESTIONS: usize = 1_000;
/// How long such a question may stay unanswered before it is sent again, and what is cached is answered in its place: an
/// answer takes a millisecond, and a client waits for it.
pub const ENGINE_QUESTION_WAIT: Duration = Duration::from_secs(2);
/// The longest such wait: it doubles once, since only the answer to the latest request counts, and the next leader is asked
/// so much later.
pub const ENGINE_QUESTION_WAIT_MAX: Duration = Duration::from_secs(4);
/// The last messages that a cache then looks for: an engine that loses what it has acknowledged loses the last of it.
pub const ENGINE_LOOK_WITNESSES: usize = 8;
/// Clients that may have told something newer, or be gone, since they were noted as the ones to leave a cache, and that are
/// passed over to make room for one: some 0.1 ms.
pub const CACHE_EVICTION_STEPS: usize = 1_000;
/// Cells that remember which messages the clients had that have left a cache, in 4 MB at the most. A cell that many clients
/// share costs a question to the leader of the bucket where any copy could have answered.
pub const CACHE_REMEMBERED: usize = 1 << 18;
/// How long they are remembered at least, and at most twice as long: longer than a copy of the bucket lags.
pub const CACHE_REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Connections that are looked at in one turn because they may have waited for the engine for too long.
pub const ENGINE_WAITS_PER_STEP: usize = 1_024;
/// How soon the first IAMAT that waits for room in a cache tries again, if no acknowledgement lets it: rarely enough to cost
/// nothing.
pub const ENGINE_ROOM_PAUSE: Duration = Duration::from_millis(100);
