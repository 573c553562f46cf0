//! Signals, and a supervisor's lifeline, as events of the loop like any other. Step 2 of the turn sets bits;
//! step 6 reads the sources and acts.
//!
//! The lifeline ([`lifeline`](super::lifeline)) is a pipe: its end means "stop", so that no process outlives
//! its supervisor, however that ended. The caller decides what a signal means: that may depend on the process,
//! of which the loop knows nothing.

use std::io;
use std::os::fd::OwnedFd;

use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};
use signal_hook_mio::v1_0::Signals;

use super::lifeline::{Lifeline, Looked};
use crate::application::Control;

/// What a signal asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// Stop gracefully, also in a drain; or at once, if it is repeated after a second or later.
    Stop,
    /// Stop as well, or drain; but in a drain it changes nothing.
    Terminate(Termination),
    /// Something that the application does.
    Control(Control),
}

/// What a request to terminate means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    Stop,
    Drain,
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
    pub stop: bool,
    pub terminate: Option<Termination>,
    /// The lifeline has ended. This is not a signal, so it never counts as a second one.
    pub lifeline_ended: bool,
    pub reopen_log: bool,
    pub drain: bool,
    /// The newest one, with the text that came with it.
    pub reload: Option<Option<Vec<u8>>>,
}

/// The sources of control events, and which of them are ready.
#[derive(Default)]
pub(super) struct WatchedControls {
    signals: Option<Signals>,
    request: Option<fn(i32) -> Option<ControlRequest>>,
    lifeline: Option<Lifeline<Receiver>>,
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
        let mut lifeline = controls.lifeline.map(|pipe| Lifeline::new(Receiver::from(pipe)));
        if let Some(lifeline) = &mut lifeline {
            lifeline.pipe().set_nonblocking(true)?;
            registry.register(lifeline.pipe(), for_lifeline, Interest::READABLE)?;
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

    /// Whether there may be requests that no event will announce.
    pub fn has_work(&self) -> bool {
        self.lifeline_ready
    }

    /// Takes the requests since the last time. `None` if no source was ready.
    #[inline]
    pub fn take(&mut self) -> Option<ControlRequests> {
        (self.signals_ready || self.lifeline_ready).then(|| self.take_ready())
    }

    #[cold]
    fn take_ready(&mut self) -> ControlRequests {
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
                ControlRequest::Stop => requests.stop = true,
                ControlRequest::Terminate(how) => requests.terminate = Some(how),
                ControlRequest::Control(Control::ReopenLog) => requests.reopen_log = true,
                ControlRequest::Control(Control::Drain) => requests.drain = true,
                ControlRequest::Control(Control::Reload(text)) => requests.reload = Some(text),
            }
        }
    }

    fn take_lifeline(&mut self, requests: &mut ControlRequests) {
        match self.lifeline.as_mut().map(|lifeline| lifeline.look(requests)) {
            None | Some(Looked::Empty) => {}
            Some(Looked::More) => self.lifeline_ready = true,
            Some(Looked::Ended) => {
                requests.lifeline_ended = true;
                self.lifeline = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The pipe holds as much as the loop reads in one turn, and only a read would tell that it is empty.
    #[test]
    fn a_lifeline_with_much_to_read_is_looked_at_again_without_an_event() {
        let (mut sender, receiver) = mio::unix::pipe::new().expect("a pipe");
        let count = sender.write(&[b'L'; 64 * 1024]).expect("the pipe is empty");
        if count < 64 * 1024 {
            return; // A pipe of this system holds less than Linux's.
        }
        let lifeline = Some(Lifeline::new(receiver));
        let mut controls = WatchedControls { lifeline, ..WatchedControls::default() };
        let take = |controls: &mut WatchedControls| controls.take().expect("a source is ready");
        controls.note_lifeline();
        assert!(take(&mut controls).reopen_log && controls.has_work());
        assert!(!take(&mut controls).reopen_log && !controls.has_work());
        assert_eq!(controls.take(), None);
        drop(sender);
        controls.note_lifeline();
        assert!(take(&mut controls).lifeline_ended);
    }
}
