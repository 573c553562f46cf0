//! Reads the numbers of all loops, of the herd and of the process, at one time: [`Server::families`]. The first loop does
//! so for the others, whose counters are atomics. The table, the feed and the links are its own, which other servers
//! see; the tables of the other loops hold the same clients.

use std::sync::Arc;

use super::family::{Family, SampleValue, seconds};
use super::{
    ADMIN_CODES, AdminPath, ClosedReason, Kind, LineCommand, LineResult, Paused, PlacesResult,
    Process, RateLimit, RejectedReason, ServerMetrics, UpdateResult, UpdateSource,
};
use crate::application::{Lack, LoopMetrics};
use crate::clock::Now;
use crate::logging;
use crate::server::neighbour::Handshake;
use crate::server::{ADMIN, CLIENTS, PEERS, Server};

pub(super) type Loops = [(Arc<LoopMetrics>, Arc<ServerMetrics>)];

impl Server {
    /// All metrics, in the order in which they are shown. `is_ready` is what `/readyz` says.
    pub fn families(&mut self, is_ready: bool, now: Now) -> Vec<Family> {
        self.answers.settle(&self.metrics);
        let mut all = Vec::with_capacity(FAMILIES);
        self.add_server(is_ready, &mut all);
        let loops = &self.all_metrics.loops[..];
        add_loops(loops, &mut all);
        self.add_connections(loops, &mut all);
        add_pauses(loops, self.herd.is_cache(), &mut all);
        add_traffic(&self.kinds(), loops, &mut all);
        self.add_lines(loops, &mut all);
        self.add_table(loops, &mut all);
        self.add_links(now, &mut all);
        self.add_kept(loops, &mut all);
        add_places(loops, &mut all);
        self.add_tls(loops, &mut all);
        self.add_reloads(&mut all);
        add_log(&mut all);
        all.push(admin_requests(loops));
        if let Some(process) = self.all_metrics.process.and_then(|read| read()) {
            add_process(&process, &mut all);
        }
        all
    }

    fn add_server(&self, is_ready: bool, all: &mut Vec<Family>) {
        let mut build = Family::gauge("herd_build_info", "The program, always 1");
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", option_env!("HERD_MIO_COMMIT").unwrap_or("unknown")),
            ("rust", option_env!("HERD_MIO_RUST").unwrap_or("unknown")),
        ];
        build.add(labels, 1);
        let mut server = Family::gauge("herd_server_info", "The server and its run, always 1");
        let settings = self.herd.settings();
        let epoch = format!("{:016x}", settings.epoch.0);
        let (name, dialect) = (&settings.name[..], settings.dialect.name());
        server.add([("server", name), ("epoch", &epoch), ("dialect", dialect)], 1);
        let ready = Family::gauge("herd_ready", "Whether it is ready for clients").of(is_ready);
        let help = "Whether each reachable neighbour has sent all that it knew";
        let in_sync = Family::gauge("herd_in_sync", help).of(self.herd.is_in_sync());
        let help = "Whether it drains or stops";
        let draining = Family::gauge("herd_draining", help).of(!self.is_serving());
        all.extend([build, server, ready, draining, in_sync]);
    }

    fn add_connections(&self, loops: &Loops, all: &mut Vec<Family>) {
        let mut open = Family::gauge("herd_connections", "Connections that are open now");
        let help = "Connections that were accepted or made";
        let mut accepted = Family::counter("herd_connections_accepted_total", help);
        for kind in &self.kinds() {
            let class = |it: &LoopMetrics| {
                let class = it.class(kind.class());
                (class.open.get(), class.opened.get())
            };
            let (now, ever) = sum2(loops, class);
            let class = |it: &LoopMetrics| {
                let class = it.class(kind.class());
                (class.tls.get(), class.tls_opened.get())
            };
            let (tls_now, tls_ever) = sum2(loops, class);
            let of = |transport| [("kind", kind.text()), ("transport", transport)];
            // The Places service is always asked over TLS. (Two counters may show different moments.)
            if *kind != Kind::Places {
                open.add(of("plain"), now.saturating_sub(tls_now));
                accepted.add(of("plain"), ever.saturating_sub(tls_ever));
            }
            let in_handshake = self.in_handshake(*kind, loops);
            if self.may_have_tls(*kind) || tls_ever + in_handshake > 0 {
                open.add(of("tls"), tls_now);
                accepted.add(of("tls"), tls_ever);
                open.add(of("handshake"), in_handshake);
            }
        }
        let help = "Clients that may be connected";
        let limit = self.limits.client_connections * loops.len().max(1);
        let limit = Family::gauge("herd_connections_limit", help).of(limit as u64);
        all.extend([open, limit, accepted, self.closed(loops), self.rejected(loops)]);
    }

    /// The kinds of connection that this server may have.
    fn kinds(&self) -> Vec<Kind> {
        let is_there = |kind: &Kind| *kind != Kind::Engine || self.engine_link_status().is_some();
        Kind::ALL.iter().copied().filter(is_there).collect()
    }

    /// Connections of a kind that are not open yet, because their TLS handshake is not complete.
    fn in_handshake(&self, kind: Kind, loops: &Loops) -> u64 {
        let accepted = |listener| of_loops(loops, |it| it.handshaking(listener).get());
        match kind {
            Kind::Client => accepted(CLIENTS),
            Kind::LinkIn => accepted(PEERS),
            Kind::Admin => accepted(ADMIN),
            Kind::LinkOut => {
                let dialled = self.other_servers().map(|(_, known)| known.handshake);
                dialled.filter(|handshake| *handshake == Handshake::UnderWay).count() as u64
            }
            Kind::Places => of_servers(loops, |it| it.places.in_handshake.get()),
            // One of seconds, of one connection.
            Kind::Engine => 0,
        }
    }

    fn add_table(&self, loops: &Loops, all: &mut Vec<Family>) {
        let table = self.herd.table();
        let gauge = |name, help, value: usize| Family::gauge(name, help).of(value as u64);
        all.push(gauge("herd_table_clients", "Clients that are known", table.len()));
        all.push(gauge("herd_table_clients_limit", "Clients that may be known", table.bound()));
        all.push(updates(loops, self.herd.engine_status().is_some(), self.herd.is_cache()));
        let help = "How often the full table has evicted its oldest tenth";
        all.push(Family::counter("herd_table_floor_raises_total", help).of(table.floor_raises()));
        let help = "Clients that the full table has evicted";
        all.push(Family::counter("herd_table_evicted_clients_total", help).of(table.evicted()));
        let help = "The number of the newest change";
        all.push(Family::gauge("herd_feed_sequence", help).of(table.end().0));
        let help = "Changes that are kept, outdated ones included";
        all.push(gauge("herd_feed_records", help, table.feed_len()));
    }

    fn add_reloads(&self, all: &mut Vec<Family>) {
        let state = self.reload_state();
        let help = "Whether the last reload of the configuration was successful";
        let name = "herd_config_last_reload_successful";
        all.push(Family::gauge(name, help).of(state.last_successful));
        let help = "When the configuration in force was read";
        let name = "herd_config_last_reload_success_timestamp_seconds";
        all.push(Family::gauge(name, help).of(state.last_success.0 as f64 / 1e9));
        let help = "Whether some settings take effect only after a restart";
        all.push(Family::gauge("herd_config_restart_required", help).of(state.restart_required));
    }
}

/// Reasons of TLS are shown where TLS is spoken.
impl Server {
    fn closed(&self, loops: &Loops) -> Family {
        let help = "Connections that were closed";
        let mut family = Family::counter("herd_connections_closed_total", help);
        for kind in &self.kinds() {
            for reason in ClosedReason::ALL {
                let count = |it: &ServerMetrics| it.closed[*kind as usize][*reason as usize].get();
                let count = of_servers(loops, count);
                let is_of_engine =
                    matches!(reason, ClosedReason::AnswerTimeout | ClosedReason::AnswerRefused);
                let waits = !is_of_engine || self.herd.answer_after().engine;
                let is_of_kind =
                    reason.is_of(*kind) && (!reason.is_of_tls() || self.may_have_tls(*kind));
                let can_occur = waits && is_of_kind;
                if count > 0 || can_occur {
                    family.add([("kind", kind.text()), ("reason", reason.text())], count);
                }
            }
        }
        family
    }

    fn rejected(&self, loops: &Loops) -> Family {
        let help = "Connections that were refused, or closed before they were identified";
        let mut family = Family::counter("herd_connections_rejected_total", help);
        for kind in [Kind::Client, Kind::LinkIn, Kind::Admin] {
            for reason in RejectedReason::ALL {
                let count = |it: &ServerMetrics| it.rejected[kind as usize][*reason as usize].get();
                let count = of_servers(loops, count);
                let can_occur =
                    reason.is_of(kind) && (!reason.is_of_tls() || self.may_have_tls(kind));
                if count > 0 || can_occur {
                    family.add([("kind", kind.text()), ("reason", reason.text())], count);
                }
            }
        }
        family
    }

    fn add_lines(&self, loops: &Loops, all: &mut Vec<Family>) {
        let mut lines = Family::counter("herd_lines_total", "Lines of clients");
        let help = "From the complete line to the answer in the output; the whole turn if it is given at once";
        let mut answers = Family::histogram("herd_answer_duration_seconds", help);
        for command in LineCommand::ALL {
            let of = ("command", command.text());
            for result in LineResult::ALL {
                let count = of_servers(loops, |it| it.lines(*command, *result));
                let can_occur =
                    *result != LineResult::NotPermitted || self.tls.rules.judges_lines(*command);
                if count > 0 || can_occur {
                    lines.add([of, ("result", result.text())], count);
                }
            }
            let histograms = loops.iter().map(|(_, metrics)| &metrics.answers[*command as usize]);
            answers.add([of], SampleValue::of_histograms(histograms));
        }
        all.extend([lines, answers]);
    }
}

fn of_loops(loops: &Loops, number: impl Fn(&LoopMetrics) -> u64) -> u64 {
    loops.iter().map(|(metrics, _)| number(metrics)).sum()
}

pub(super) fn of_servers(loops: &Loops, number: impl Fn(&ServerMetrics) -> u64) -> u64 {
    loops.iter().map(|(_, metrics)| number(metrics)).sum()
}

fn sum2(loops: &Loops, numbers: impl Fn(&LoopMetrics) -> (u64, u64)) -> (u64, u64) {
    (of_loops(loops, |it| numbers(it).0), of_loops(loops, |it| numbers(it).1))
}

fn updates(loops: &Loops, has_engine: bool, is_cache: bool) -> Family {
    let help = "Updates of clients and neighbours";
    let mut family = Family::counter("herd_table_updates_total", help);
    for source in UpdateSource::ALL {
        if *source == UpdateSource::Engine && !has_engine {
            continue;
        }
        for result in UpdateResult::ALL {
            if *result == UpdateResult::NoRoom && !is_cache {
                continue;
            }
            let count = |it: &ServerMetrics| it.updates[*source as usize][*result as usize].get();
            let labels = [("source", source.text()), ("result", result.text())];
            family.add(labels, of_servers(loops, count));
        }
    }
    family
}

fn add_loops(loops: &Loops, all: &mut Vec<Family>) {
    let mut turns = Family::counter("herd_loop_turns_total", "Turns of the loop");
    let help = "From the end of the wait to the next wait";
    let mut duration = Family::histogram("herd_loop_turn_duration_seconds", help);
    let mut longest = Family::gauge("herd_loop_longest_turn_seconds", "The longest turn");
    let mut busy = Family::counter("herd_loop_busy_seconds_total", "Time outside the wait");
    let mut events = Family::counter("herd_loop_events_total", "Readiness events");
    let help = "How often a turn left work for the next one";
    let mut budgets = Family::counter("herd_loop_budget_exhausted_total", help);
    for (index, (metrics, _)) in loops.iter().enumerate() {
        let number = (index + 1).to_string();
        let of = ("loop", &number[..]);
        turns.add([of], &metrics.turns);
        duration.add([of], &metrics.turn_duration);
        longest.add([of], seconds(metrics.longest_turn.get()));
        busy.add([of], seconds(metrics.busy.get()));
        events.add([of], &metrics.events);
        let names = ["lines", "bytes", "accepts", "feed", "handshakes"];
        for (budget, count) in names.iter().zip(&metrics.budgets) {
            budgets.add([of, ("budget", budget)], count);
        }
    }
    all.extend([turns, duration, longest, busy, events, budgets]);
}

fn add_pauses(loops: &Loops, is_cache: bool, all: &mut Vec<Family>) {
    let help = "Time in which no connection could be accepted";
    let mut accept = Family::counter("herd_accept_paused_seconds_total", help);
    for (reason, lack) in [("descriptors", Lack::Descriptors), ("memory", Lack::Memory)] {
        let paused = of_loops(loops, |it| it.accept_paused[lack as usize].get());
        accept.add([("reason", reason)], seconds(paused));
    }
    let help = "Connections that are not read now";
    let mut paused = Family::gauge("herd_paused_connections", help);
    let full = |it: &LoopMetrics| it.classes.iter().map(|class| class.full.get()).sum();
    paused.add([("reason", "output_full")], of_loops(loops, full));
    for reason in Paused::ALL {
        if *reason == Paused::Engine && !is_cache {
            continue;
        }
        let count = of_servers(loops, |it| it.paused[*reason as usize].get());
        paused.add([("reason", reason.text())], count);
    }
    let waiting = of_loops(loops, |it| it.waiting_handshakes.get());
    paused.add([("reason", "handshakes")], waiting);
    let help = "How often a limit made a connection wait";
    let mut limited = Family::counter("herd_rate_limited_total", help);
    for limit in RateLimit::ALL {
        let count = of_servers(loops, |it| it.rate_limited[*limit as usize].get());
        limited.add([("limit", limit.text())], count);
    }
    let count = of_loops(loops, |it| it.rate_limited_handshakes.get());
    limited.add([("limit", "handshakes")], count);
    let help = "Addresses (IPv6: /64) that have connections";
    let groups = of_loops(loops, |it| it.address_groups.get());
    all.extend([accept, paused, limited, Family::gauge("herd_address_groups", help).of(groups)]);
}

fn add_traffic(kinds: &[Kind], loops: &Loops, all: &mut Vec<Family>) {
    let help = "Bytes received, TLS included";
    let mut received = Family::counter("herd_network_receive_bytes_total", help);
    let help = "Bytes sent, TLS included";
    let mut sent = Family::counter("herd_network_transmit_bytes_total", help);
    for kind in kinds {
        let bytes = |it: &LoopMetrics| {
            (it.class(kind.class()).bytes_in.get(), it.class(kind.class()).bytes_out.get())
        };
        let (bytes_in, bytes_out) = sum2(loops, bytes);
        received.add([("kind", kind.text())], bytes_in);
        sent.add([("kind", kind.text())], bytes_out);
    }
    let (buffers, limit) = sum2(loops, |it| (it.buffer_bytes.get(), it.buffer_limit.get()));
    let buffers = Family::gauge("herd_buffer_bytes", "Memory of all buffers").of(buffers);
    let help = "Memory that all buffers may take";
    all.extend([received, sent, buffers, Family::gauge("herd_buffer_limit_bytes", help).of(limit)]);
}

fn add_places(loops: &Loops, all: &mut Vec<Family>) {
    let mut requests = Family::counter("herd_places_requests_total", "Queries for places");
    for result in PlacesResult::ALL {
        let count = of_servers(loops, |it| it.places.requests[*result as usize].get());
        requests.add([("result", result.text())], count);
    }
    let help = "From a client's line to its answer, if it was not given at once";
    let histograms = loops.iter().map(|(_, metrics)| &metrics.places.duration);
    let value = SampleValue::of_histograms(histograms);
    let duration = Family::histogram("herd_places_request_duration_seconds", help).of(value);
    let gauge = |name, help, value| Family::gauge(name, help).of(value);
    let in_flight = of_servers(loops, |it| it.places.in_flight.get());
    let help = "Queries that the service has been sent or is dialled for";
    let in_flight = gauge("herd_places_in_flight", help, in_flight);
    let waiting = of_servers(loops, |it| it.places.waiting.get());
    let waiting = gauge("herd_places_waiting", "Queries that wait for others to end", waiting);
    let shared = of_servers(loops, |it| it.places.shared.get());
    let help = "Queries that joined another one";
    let shared = Family::counter("herd_places_shared_total", help).of(shared);
    let help = "Requests by whether their connection had carried one before";
    let mut connections = Family::counter("herd_places_connections_total", help);
    for (place, reused) in ["false", "true"].iter().enumerate() {
        let count = of_servers(loops, |it| it.places.connections[place].get());
        connections.add([("reused", reused)], count);
    }
    all.extend([requests, duration, in_flight, waiting, shared, connections]);
}

fn add_log(all: &mut Vec<Family>) {
    let counters = logging::counters();
    let mut records = Family::counter("herd_log_records_total", "Records of the log");
    for (level, count) in counters.records {
        records.add([("level", level)], count);
    }
    let help = "Records that an output could not take";
    let mut dropped = Family::counter("herd_log_dropped_records_total", help);
    let mut pending = Family::gauge("herd_log_pending_bytes", "Bytes that wait for an output");
    for output in counters.outputs {
        let of = ("output", output.output.name());
        dropped.add([of], output.dropped);
        pending.add([of], output.pending_bytes);
    }
    all.extend([records, dropped, pending]);
}

/// Every path with the statuses that it can have, and whatever else has occurred.
fn admin_requests(loops: &Loops) -> Family {
    let help = "Requests to the admin listener";
    let mut family = Family::counter("herd_admin_requests_total", help);
    for path in AdminPath::ALL {
        for code in ADMIN_CODES {
            let count = of_servers(loops, |it| it.admin_requests(*path, code));
            if count > 0 || path.can_have(code) {
                family.add([("path", path.text()), ("code", &code.to_string())], count);
            }
        }
    }
    family
}

fn add_process(process: &Process, all: &mut Vec<Family>) {
    let help = "User and system time";
    all.push(Family::counter("process_cpu_seconds_total", help).of(process.cpu_seconds));
    let gauge = |name, help, value: u64| Family::gauge(name, help).of(value);
    let help = "Memory in use";
    all.push(gauge("process_resident_memory_bytes", help, process.resident_bytes));
    all.push(gauge("process_virtual_memory_bytes", "Address space", process.virtual_bytes));
    if let Some(open) = process.open_descriptors {
        all.push(gauge("process_open_fds", "Open descriptors", open));
    }
    let help = "Descriptors that may be open";
    all.push(gauge("process_max_fds", help, process.max_descriptors));
    let help = "When the process started, since 1970";
    all.push(Family::gauge("process_start_time_seconds", help).of(process.start_seconds));
}

/// About as many families as there are.
const FAMILIES: usize = 64;
