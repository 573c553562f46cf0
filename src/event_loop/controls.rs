//! Signals, and a supervisor's lifeline, as events of the loop like any other. Step 2 of the turn sets bits;
//! step 6 reads the sources and acts.
//!
//! The lifeline is a pipe: its end means "stop", so that no process outlives its supervisor, however that
//! ended, and a byte means "reopen the log". The caller decides what a signal means: that may depend on the
//! process, of which the loop knows nothing.

use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;

use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};
use signal_hook_mio::v1_0::Signals;

use crate::application::Control;

/// What a signal asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// Stop gracefully; or at once, if it is repeated after a second or later.
    Stop,
    /// Something that the application does.
    Control(Control),
}

/// What a loop watches besides its connections.
pub struct Controls {
    /// Signals to watch.
    pub signals: Vec<i32>,
    /// What each of them asks for; `None` if this function has handled the signal, or the signal means
    /// nothing.
    pub request: fn(i32) -> Option<ControlRequest>,
    /// A pipe whose end stops the loop.
    pub lifeline: Option<OwnedFd>,
}

/// The requests since the last look; a repeated one counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ControlRequests {
    pub stop_by_signal: bool,
    /// The lifeline has ended. This is not a signal, so it never counts as a second one.
    pub lifeline_ended: bool,
    pub reopen_log: bool,
    pub reload: Option<Option<Vec<u8>>>,
}

/// The sources of control events, and which of them are ready.
#[derive(Default)]
pub(super) struct WatchedControls {
    signals: Option<Signals>,
    request: Option<fn(i32) -> Option<ControlRequest>>,
    lifeline: Option<Receiver>,
    signals_ready: bool,
    lifeline_ready: bool,
}

impl WatchedControls {
    /// Begins to watch.
    pub fn watch(
        controls: Controls,
        registry: &Registry,
        for_signals: Token,
        for_lifeline: Token,
    ) -> io::Result<WatchedControls> {
        let mut signals = Signals::new(controls.signals)?;
        registry.register(&mut signals, for_signals, Interest::READABLE)?;
        let mut lifeline = controls.lifeline.map(Receiver::from);
        if let Some(lifeline) = &mut lifeline {
            lifeline.set_nonblocking(true)?;
            registry.register(lifeline, for_lifeline, Interest::READABLE)?;
        }
        let (signals, request) = (Some(signals), Some(controls.request));
        Ok(WatchedControls {
            signals,
            request,
            lifeline,
            signals_ready: false,
            lifeline_ready: false,
        })
    }

    pub fn note_signals(&mut self) {
        self.signals_ready = true;
    }

    pub fn note_lifeline(&mut self) {
        self.lifeline_ready = true;
    }

    /// Takes the requests since the last time.
    #[inline]
    pub fn take(&mut self) -> ControlRequests {
        let mut requests = ControlRequests::default();
        if std::mem::take(&mut self.signals_ready) {
            self.take_signals(&mut requests);
        }
        if std::mem::take(&mut self.lifeline_ready) {
            self.take_lifeline(&mut requests);
        }
        requests
    }

    fn take_signals(&mut self, requests: &mut ControlRequests) {
        let (Some(signals), Some(request)) = (&mut self.signals, self.request) else {
            return;
        };
        for request in signals.pending().filter_map(request) {
            match request {
                ControlRequest::Stop => requests.stop_by_signal = true,
                ControlRequest::Control(Control::ReopenLog) => requests.reopen_log = true,
                ControlRequest::Control(Control::Reload(text)) => requests.reload = Some(text),
            }
        }
    }

    fn take_lifeline(&mut self, requests: &mut ControlRequests) {
        let mut bytes = [0; 16];
        while let Some(lifeline) = &mut self.lifeline {
            match lifeline.read(&mut bytes) {
                Ok(count) if count > 0 => requests.reopen_log = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {
                    requests.lifeline_ended = true;
                    self.lifeline = None;
                }
            }
        }
    }
}
