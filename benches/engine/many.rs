//! Many bare clients, each with one publish unanswered at a time: what a member's clients would be to NATS without it.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::Failure;
use crate::bare::{Bare, Publish};

/// Connections of bare clients, on one thread.
pub struct Many {
    poll: Poll,
    events: Events,
    clients: Vec<Bare>,
}

impl Many {
    pub fn connect(address: SocketAddr, count: usize) -> Result<Many, Failure> {
        let poll = Poll::new()?;
        let mut clients = Vec::with_capacity(count);
        for index in 0..count {
            let bare = Bare::connect(address)?;
            bare.stream().set_nonblocking(true)?;
            let descriptor = bare.stream().as_raw_fd();
            poll.registry().register(
                &mut SourceFd(&descriptor),
                Token(index),
                Interest::READABLE,
            )?;
            clients.push(bare);
        }
        Ok(Many { poll, events: Events::with_capacity(1_024), clients })
    }

    /// The bucket is empty again.
    pub fn forget(&mut self) {
        self.clients.iter_mut().for_each(|client| client.last = 0);
    }

    /// Each publishes updates of one client, the next one when the last one is acknowledged, until `count` are.
    pub fn publish(
        &mut self,
        bucket: &str,
        count: usize,
        how: Publish,
    ) -> Result<Duration, Failure> {
        let begin = Instant::now();
        let (mut sent, mut acked) = (0, 0);
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.publish_one(bucket, index, sent, how)?;
            sent += 1;
        }
        while acked < count {
            self.poll.poll(&mut self.events, Some(Duration::from_secs(10)))?;
            if self.events.is_empty() {
                return Err("no acknowledgement for ten seconds".into());
            }
            for event in &self.events {
                let Token(index) = event.token();
                if self.clients[index].acknowledged()? {
                    acked += 1;
                    if sent < count {
                        self.clients[index].publish_one(bucket, index, sent, how)?;
                        sent += 1;
                    }
                }
            }
        }
        Ok(begin.elapsed())
    }
}
