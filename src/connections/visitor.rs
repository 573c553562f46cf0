//! A visitor of the Places service that this program can be itself: HTTP requests in, answers from the
//! gazetteer out.

use std::net::SocketAddr;

use super::places::Places;
use super::{Server, Verdict, records};
use crate::http::{CONTINUE, Request, RequestReader, write_response};
use crate::limits::GAZETTEER_EFFORT;
use crate::logging::Traffic;
use crate::logging::rate_limit::Kind;
use crate::places::serving;

/// A connection that asks for places by HTTP.
#[derive(Debug, Default)]
pub struct Visitor {
    reader: RequestReader,
    /// Whether a request may be whole that is not answered yet.
    has_more: bool,
}

impl Visitor {
    /// Whether it is to be served again although nothing new has come.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether a request was begun and is not whole.
    pub fn has_begun(&self) -> bool {
        self.reader.has_begun()
    }

    /// Bytes that it holds.
    pub fn buffered(&self) -> usize {
        self.reader.buffered()
    }
}

impl Server {
    /// Takes in what a visitor has sent, and answers a few requests of it.
    pub(super) fn visitor_bytes(
        &mut self,
        visitor: &mut Visitor,
        peer: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Verdict {
        visitor.reader.push(bytes);
        for _ in 0..REQUESTS_PER_TURN {
            let verdict = match visitor.reader.next_request() {
                Ok(Some(request)) => self.visit(&request, peer, out),
                Ok(None) => {
                    visitor.has_more = false;
                    if visitor.reader.wants_continue() {
                        out.extend_from_slice(CONTINUE);
                    }
                    return Verdict::Next;
                }
                Err(bad) => {
                    records::refused(Kind::HttpRequestRefused, peer, &bad);
                    write_response(bad.status(), format!("{bad}\n").as_bytes(), false, out);
                    Verdict::Close
                }
            };
            if verdict == Verdict::Close {
                visitor.has_more = false;
                return verdict;
            }
        }
        visitor.has_more = true;
        Verdict::Next
    }

    fn visit(&mut self, request: &Request, peer: SocketAddr, out: &mut Vec<u8>) -> Verdict {
        self.effort += GAZETTEER_EFFORT;
        let words = serving::first_words(request);
        Traffic::Http.received(peer, words.as_bytes());
        let gazetteer = match &self.places {
            Places::Offline(offline) => offline.gazetteer(),
            Places::Service(_) => None,
        };
        let (status, body) = match gazetteer {
            Some(gazetteer) => serving::reply(request, gazetteer, self.visitors_key.as_ref()),
            None => (503, b"there is no gazetteer here\n".to_vec()),
        };
        write_response(status, &body, request.keep_alive, out);
        Traffic::Http.sent_response(peer, status, body.len());
        if request.keep_alive { Verdict::Next } else { Verdict::Close }
    }
}

/// Requests of one visitor that are answered in one turn. Many may come in one segment, and their answers
/// are far larger and dearer than they.
const REQUESTS_PER_TURN: usize = 1;
