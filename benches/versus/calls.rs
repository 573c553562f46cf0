//! How many system calls a request takes, one after the other. The process is slow while strace counts, so the thread of
//! the log writes fewer records at once than it would otherwise: its calls for a request are rather too many.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Failure;
use crate::figures::Figures;
use crate::options::Options;
use crate::peers::{Peer, Running, Workshop};
use crate::places;
use crate::strace::{self, Calls};

/// What is counted: its name among the figures, and what the table calls it.
pub const WAYS: [(&str, &str); 4] = [
    ("c-epoll", "an IAMAT, C with epoll (baseline)"),
    ("off", "an IAMAT, log off"),
    ("info", "an IAMAT, log at INFO"),
    ("whatsat", "a WHATSAT over a kept HTTPS connection, log off"),
];

pub fn measure(
    workshop: &Workshop,
    present: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let mut servers = vec![
        ("off", workshop.start(Peer::Ours, false)?),
        ("info", workshop.start(Peer::Ours, true)?),
    ];
    if present.contains(&Peer::Baseline) {
        servers.push(("c-epoll", workshop.start(Peer::Baseline, false)?));
    }
    let (_service, url, ca) = places::start_service(workshop)?;
    let asking = places::ours(workshop, &url, &ca)?;
    for _ in 0..options.rounds {
        for (way, server) in &servers {
            add(way, of_iamats(server)?, figures);
        }
        add("whatsat", of_whatsats(&asking)?, figures);
    }
    Ok(())
}

fn add(way: &str, calls: Calls, figures: &mut Figures) {
    let each = calls.values().sum::<f64>() / REQUESTS as f64;
    eprintln!("calls {way:8} {each:5.2} {calls:?}");
    figures.add(format!("calls/{way}"), each);
}

fn of_iamats(server: &Running) -> Result<Calls, Failure> {
    let mut client = Client::connect(server.clients)?;
    client.ask(&iamat(0), "\n")?;
    strace::count(server.id(), || {
        (0..REQUESTS).try_for_each(|_| client.ask(&iamat(0), "\n").map(drop))
    })
}

/// Each asks about another place: the same answer twice would be doubted.
fn of_whatsats(server: &Running) -> Result<Calls, Failure> {
    let mut client = Client::connect(server.clients)?;
    for number in 0..REQUESTS {
        client.ask(&iamat(number), "\n")?;
    }
    let mut whatsat = |number: usize| -> Result<(), Failure> {
        let answer = client.ask(&format!("WHATSAT calls-{number} 10 5\n"), "\n\n")?;
        match answer.contains("\"OK\"") {
            true => Ok(()),
            false => Err(format!("an answer without places: {answer}").into()),
        }
    };
    whatsat(0)?; // Opens the connection.
    strace::count(server.id(), || (0..REQUESTS).try_for_each(whatsat))
}

fn iamat(number: usize) -> String {
    format!("IAMAT calls-{number} +34.{number:06}-118.445127 1559865055.918963997\n")
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(server: SocketAddr) -> Result<Client, Failure> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Client(BufReader::new(stream)))
    }

    fn ask(&mut self, line: &str, end: &str) -> Result<String, Failure> {
        self.0.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        while !answer.ends_with(end) {
            if self.0.read_line(&mut answer)? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        Ok(answer)
    }
}

/// Of each round.
const REQUESTS: usize = 1_000;
