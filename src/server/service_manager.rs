//! What a service manager, such as systemd, is told of the server. `node` makes the way to it; without a service manager
//! there is none, and no timer. Only the first loop has it.
//!
//! | notice | when |
//! |---|---|
//! | [`Notice::Ready`] | in the first turn, when the listeners accept; and after each reload |
//! | [`Notice::Status`] | with each other one but [`Notice::Alive`], and every ten seconds |
//! | [`Notice::Alive`] | at half of the time within which the manager wants it, while every loop turns |
//! | [`Notice::Reloading`] | when a reload begins |
//! | [`Notice::Stopping`] | when the server begins to drain or to stop |
//! | [`Notice::Extend`] | with each status of a drain |
//!
//! Ready does not wait until the server is in sync: its neighbours may be started after it, and those of a herd that
//! waited for each other could not be started one by one.

use std::fmt;
use std::time::Duration;

use super::Server;
use super::admin::stuck_loop;
use super::metrics::Kind;
use crate::clock::Now;
use crate::limits::{DRAIN_EXTENSION, LOOP_STUCK_AFTER, STATUS_INTERVAL};
use crate::logging::target;

/// Something that a service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// The listeners accept, with the configuration in force.
    Ready,
    /// How the server is, for people.
    Status(&'a str),
    /// Every loop turns.
    Alive,
    /// The configuration is being read again; [`Notice::Ready`] follows.
    Reloading,
    Stopping,
    /// To stop takes this much longer from now on.
    Extend(Duration),
}

/// Tells a service manager. It never blocks, and what cannot be told is its own matter.
pub type Tell = Box<dyn FnMut(&[Notice<'_>]) + Send>;

/// The service manager that has started this process.
pub struct ServiceManager {
    tell: Tell,
    /// The time within which it wants to be told that the server is alive.
    watchdog: Option<Duration>,
    phase: ServicePhase,
    next_status: Duration,
    /// `Duration::MAX` without a watchdog.
    next_ping: Duration,
    is_stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServicePhase {
    Starting,
    Serving,
    Reloading,
    Draining,
    Stopping,
}

impl ServiceManager {
    /// Its first notice is due at once. With `watchdog`, each loop must end its turns within this time.
    pub fn new(tell: Tell, watchdog: Option<Duration>) -> ServiceManager {
        ServiceManager {
            tell,
            watchdog,
            phase: ServicePhase::Starting,
            next_status: Duration::ZERO,
            next_ping: if watchdog.is_some() { Duration::ZERO } else { Duration::MAX },
            is_stuck: false,
        }
    }

    /// When [`Server::tell_what_is_due`] must be called at the latest.
    pub(super) fn poll_timeout(&self) -> Duration {
        self.next_status.min(self.next_ping)
    }

    /// Tells that the phase has changed, and the status with it.
    fn enter(&mut self, phase: ServicePhase, status: &str, now: Duration) {
        let has_drained = self.phase == ServicePhase::Draining;
        self.phase = phase;
        self.next_status = now + STATUS_INTERVAL;
        let status = Notice::Status(status);
        match phase {
            ServicePhase::Starting => {}
            ServicePhase::Serving => (self.tell)(&[Notice::Ready, status]),
            ServicePhase::Reloading => (self.tell)(&[Notice::Reloading, status]),
            // At the end of a drain the links still have something to send.
            ServicePhase::Stopping if has_drained => {
                (self.tell)(&[status, Notice::Extend(DRAIN_EXTENSION)]);
            }
            ServicePhase::Draining => {
                (self.tell)(&[Notice::Stopping, status, Notice::Extend(DRAIN_EXTENSION)]);
            }
            ServicePhase::Stopping => (self.tell)(&[Notice::Stopping, status]),
        }
    }

    fn tell_status(&mut self, status: &str, now: Duration) {
        self.next_status = now + STATUS_INTERVAL;
        match self.phase {
            ServicePhase::Starting => self.enter(ServicePhase::Serving, status, now),
            ServicePhase::Draining => {
                (self.tell)(&[Notice::Status(status), Notice::Extend(DRAIN_EXTENSION)]);
            }
            _ => (self.tell)(&[Notice::Status(status)]),
        }
    }
}

impl Server {
    /// From now on this service manager is told. Call it before the loop runs.
    pub fn report_to(&mut self, manager: ServiceManager) {
        self.manager = Some(Box::new(manager));
        self.rare.has_deadlines = true;
    }

    /// Tells the service manager what is due by now.
    pub(super) fn tell_what_is_due(&mut self, now: Duration) {
        let Some(mut manager) = self.manager.take_if(|it| it.poll_timeout() <= now) else {
            return;
        };
        if manager.next_status <= now {
            let status = self.status(manager.phase);
            manager.tell_status(&status, now);
        }
        if let Some(watchdog) = manager.watchdog
            && manager.next_ping <= now
        {
            // From now, not from when it was due: after a pause of the process they would come too often.
            manager.next_ping = now + watchdog / 2;
            let stuck = stuck_loop(&self.all_metrics, now, watchdog.min(LOOP_STUCK_AFTER));
            match stuck {
                None => (manager.tell)(&[Notice::Alive]),
                Some(number) if !manager.is_stuck => record_stuck(number),
                Some(_) => {}
            }
            manager.is_stuck = stuck.is_some();
        }
        self.manager = Some(manager);
    }

    /// A reload begins.
    pub(super) fn tell_reloading(&mut self) {
        if self.manager_is(ServicePhase::Serving) {
            self.enter(ServicePhase::Reloading, self.now);
        }
    }

    /// The last reload has ended.
    pub(super) fn tell_reloaded(&mut self, now: Now) {
        if self.manager_is(ServicePhase::Reloading) {
            self.enter(ServicePhase::Serving, now.elapsed);
        }
    }

    /// The server begins to drain.
    pub(super) fn tell_draining(&mut self, now: Now) {
        if !self.manager_is(ServicePhase::Stopping) {
            self.enter(ServicePhase::Draining, now.elapsed);
        }
    }

    /// It begins to stop, perhaps at the end of a drain.
    pub(super) fn tell_stopping(&mut self, now: Now) {
        self.enter(ServicePhase::Stopping, now.elapsed);
    }

    fn manager_is(&self, phase: ServicePhase) -> bool {
        self.manager.as_ref().is_some_and(|manager| manager.phase == phase)
    }

    fn enter(&mut self, phase: ServicePhase, now: Duration) {
        if let Some(mut manager) = self.manager.take() {
            manager.enter(phase, &self.status(phase), now);
            self.manager = Some(manager);
        }
    }

    /// "5 of 5 links up, 1234 clients".
    fn status(&self, phase: ServicePhase) -> String {
        let (mut up, mut links) = (0, 0);
        for (neighbour, _) in self.other_servers() {
            links += 1;
            up += usize::from(self.herd.link_is_up(neighbour));
        }
        let of_loops = self.all_metrics.loops.iter();
        let clients: u64 =
            of_loops.map(|(metrics, _)| metrics.class(Kind::Client.class()).open.get()).sum();
        let doing = match phase {
            ServicePhase::Starting | ServicePhase::Serving => "",
            ServicePhase::Reloading => "reloading: ",
            ServicePhase::Draining => "draining: ",
            ServicePhase::Stopping => "stopping: ",
        };
        let links = if links == 0 { String::new() } else { format!("{up} of {links} links up, ") };
        let clients =
            if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        format!("{doing}{links}{clients}")
    }
}

fn record_stuck(number: usize) {
    // Not limited: once until the loop has turned again.
    log::error!(
        target: target::LOOP, event = "loop_stuck";
        "loop {number} does not end its turn: the service manager is not told that the server is alive until it does"
    );
}

impl fmt::Debug for ServiceManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceManager").field("phase", &self.phase).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;
    use crate::application::{Application, Control, Due, LoopMetrics};
    use crate::clock::WallTime;
    use crate::config::{Config, Overrides};
    use crate::server::{AllMetrics, ServerSetup};

    /// The first of three loops of Goloman, which has three neighbours.
    struct Told {
        server: Server,
        loops: Vec<Arc<LoopMetrics>>,
        notices: Receiver<String>,
    }

    impl Told {
        fn new(watchdog: Option<Duration>) -> Told {
            let config =
                Config::load(None, &Overrides::default(), false).expect("the report's herd");
            let now = at(0);
            let mut server = Server::new(ServerSetup::plain(&config, now));
            let start = Instant::now();
            let loops: Vec<_> = (0..3).map(|_| Arc::new(LoopMetrics::new(start))).collect();
            let of = |metrics: &Arc<LoopMetrics>| (Arc::clone(metrics), Arc::default());
            let all = AllMetrics { loops: loops.iter().map(of).collect(), ..AllMetrics::default() };
            server.know_metrics(Arc::clone(&loops[0]), all);
            let (send, notices) = mpsc::channel();
            let send = Mutex::new(send);
            let tell: Tell = Box::new(move |notices| {
                let send = send.lock().expect("nobody panics with it");
                send.send(format!("{notices:?}")).expect("the test listens");
            });
            server.report_to(ServiceManager::new(tell, watchdog));
            Told { server, loops, notices }
        }

        /// What it has told by then.
        fn by(&mut self, milliseconds: u64) -> Vec<String> {
            let mut none = |_| false;
            self.server.handle_timeout(&mut Due::new(at(milliseconds), &mut none));
            self.notices.try_iter().collect()
        }
    }

    fn at(milliseconds: u64) -> Now {
        let wall = WallTime(i128::from(milliseconds) * 1_000_000);
        Now { elapsed: Duration::from_millis(milliseconds), wall }
    }

    const READY: &str = r#"[Ready, Status("0 of 3 links up, 0 clients")]"#;

    #[test]
    fn a_loop_that_is_stuck_ends_the_pings_until_it_has_turned() {
        let mut told = Told::new(Some(Duration::from_secs(15)));
        assert_eq!(told.by(0), [READY, "[Alive]"]);
        assert_eq!(told.by(7_499), [""; 0], "not earlier");
        assert_eq!(told.by(7_500), ["[Alive]"]);
        told.loops[2].busy_since.set(8_000_000_000);
        let alive = |all: &[String]| all.iter().any(|it| it == "[Alive]");
        assert!(alive(&told.by(15_000)), "a turn may take so long");
        assert!(!alive(&told.by(22_500)), "but not so long");
        assert!(!alive(&told.by(30_000)));
        told.loops[2].busy_since.set(0);
        assert!(alive(&told.by(37_500)));
    }

    #[test]
    fn with_a_short_watchdog_a_loop_is_stuck_sooner() {
        let mut told = Told::new(Some(Duration::from_secs(2)));
        told.loops[1].busy_since.set(1);
        assert_eq!(told.by(1_000), [READY, "[Alive]"]);
        assert_eq!(told.by(2_500), [""; 0]);
    }

    #[test]
    fn the_status_comes_every_ten_seconds_and_with_each_change() {
        let mut told = Told::new(None);
        assert_eq!(told.by(5), [READY]);
        assert_eq!(told.by(10_004), [""; 0]);
        let status = r#"[Status("0 of 3 links up, 0 clients")]"#;
        assert_eq!(told.by(10_005), [status]);
        assert_eq!(told.by(99_999), [status], "once for all that were missed");
        told.server.handle_control(Control::Drain, at(100_000));
        let extend = format!("Extend({DRAIN_EXTENSION:?})");
        let status = r#"Status("draining: 0 of 3 links up, 0 clients")"#;
        assert_eq!(told.by(100_001), [format!("[Stopping, {status}, {extend}]")]);
        assert_eq!(told.by(110_000), [format!("[{status}, {extend}]")]);
        told.server.handle_stop(at(110_001));
        let status = r#"Status("stopping: 0 of 3 links up, 0 clients")"#;
        assert_eq!(told.by(110_002), [format!("[{status}, {extend}]")]);
    }
}
