//! Claim: a cache that is much too small for its clients delays them, and answers each of them all the same.

use std::fmt::Write;

use super::members::{members, start_all, wait_until_known};
use super::nats::{Nats, Release};
use crate::common::Client;
use crate::common::needs::Outcome;

pub fn updates_that_the_bucket_has_already_let_others_in_as_new_ones_do() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    // An eighth of the time in which the updates would come in if the next one were let in only after each pause.
    let setup = members(&nats, &["Goloman", "Hands"], "keep = \"cache\"\ntimeout = \"10s\"\n");
    let servers = start_all(&setup.top("max_clients = 4"));
    // The second member gets what clients send again that have lost the first one.
    for server in &servers {
        let mut clients: Vec<Client> = (0..200).map(|_| server.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let lines = (0..4).fold(String::new(), |mut lines, line| {
                _ = writeln!(lines, "IAMAT client.{number}.{line} +1.0-2.0 7");
                lines
            });
            client.send(lines);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            for line in 0..4 {
                assert_eq!(client.line(), format!("AT AT client.{number}.{line} +1.0-2.0 7"));
            }
        }
    }
    wait_until_known(&servers, "client.199.3", 7);
    Ok(())
}
