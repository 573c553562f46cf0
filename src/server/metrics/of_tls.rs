//! The metrics of TLS: handshakes, and until when certificates are valid.

use super::collect::{Loops, of_servers};
use super::family::{Family, SampleValue};
use super::{HandshakeResult, Listener, ServerMetrics};
use crate::application::{HandshakeFailure, TlsInfo};
use crate::server::Server;

impl ServerMetrics {
    /// The handshake of a connection that was accepted is complete.
    pub(in crate::server) fn count_handshake(&self, listener: Listener, tls: &TlsInfo) {
        let result = if tls.resumed { HandshakeResult::Resumed } else { HandshakeResult::Ok };
        self.handshakes[listener as usize][result as usize].add(1);
        self.handshake_duration[listener as usize].observe(tls.took);
    }

    /// The same, if it failed.
    pub(in crate::server) fn count_failed_handshake(
        &self,
        listener: Listener,
        failure: HandshakeFailure,
    ) {
        self.handshakes[listener as usize][HandshakeResult::from(failure) as usize].add(1);
    }
}

impl Server {
    pub(super) fn add_tls(&self, loops: &Loops, all: &mut Vec<Family>) {
        let help = "TLS handshakes of connections that were accepted";
        let mut handshakes = Family::counter("herd_tls_handshakes_total", help);
        let help = "From the first byte of a TLS handshake to its end";
        let mut duration = Family::histogram("herd_tls_handshake_duration_seconds", help);
        for listener in Listener::ALL {
            let (of, place) = (("listener", listener.text()), *listener as usize);
            let count = |result: HandshakeResult| {
                of_servers(loops, |it| it.handshakes[place][result as usize].get())
            };
            let is_shown = self.may_have_tls(listener.kind())
                || HandshakeResult::ALL.iter().any(|result| count(*result) > 0);
            if !is_shown {
                continue;
            }
            for result in HandshakeResult::ALL {
                handshakes.add([of, ("result", result.text())], count(*result));
            }
            let histograms = loops.iter().map(|(_, metrics)| &metrics.handshake_duration[place]);
            duration.add([of], SampleValue::of_histograms(histograms));
        }
        let help = "When the first of the certificates, or the revocation list, ends, since 1970";
        let mut ends = Family::gauge("herd_certificate_not_after_timestamp_seconds", help);
        for expiry in self.tls.expiries.all() {
            ends.add([("use", expiry.what.label())], expiry.not_after as f64);
        }
        all.extend([handshakes, duration, ends]);
    }
}
