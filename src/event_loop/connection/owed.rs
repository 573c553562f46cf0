//! A connection that waits for the application: for an answer that comes later, or to be read again.

use super::{Connection, Owed, Transport};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    Nothing,
    /// For an answer to earlier input; it is read all the same ([`Next::Owe`](crate::application::Next::Owe)).
    Answer,
    /// It is not read ([`Next::Wait`](crate::application::Next::Wait)).
    Fill,
}

impl<T: Transport> Connection<T> {
    /// Whether the application has something to do before the connection is done.
    pub fn is_waiting(&self) -> bool {
        self.awaits != Awaits::Nothing
    }

    /// Whether to serve it would do nothing: no input waits, here or in the kernel, and neither the application nor the
    /// connection itself is owed anything.
    pub fn is_served(&self) -> bool {
        !self.ready.readable
            && self.input.is_empty()
            && self.owed == Owed::Nothing
            && !self.may_report_its_end()
            && !self.is_leaving
    }

    /// Whether the application must learn now that the other side has ended its sending: all input is handled, and no
    /// answer to it is owed.
    pub fn may_report_its_end(&self) -> bool {
        self.is_read_to_its_end() && !self.end_is_reported && !self.is_waiting()
    }

    /// The same; from now on the application knows it.
    pub fn take_end(&mut self) -> bool {
        let is_taken = self.may_report_its_end();
        self.end_is_reported |= is_taken;
        is_taken
    }

    /// The other side's stream was cut, while an answer is owed that it may still read. Nothing more of it is handled, and
    /// it is finished once nothing is owed.
    pub fn cut(&mut self) {
        self.ready.readable = false;
        self.input.close();
        self.input.end();
        (self.end_is_reported, self.is_leaving) = (true, true);
    }
}
