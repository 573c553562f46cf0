//! How long NATS itself takes no update: a publisher without any code of this project sends one to each node every 100 ms, on
//! connections that it makes again at once, and waits for nothing. What a member adds to that is the member's.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::nats::Nats;

/// The publisher. Dropped, it ends.
pub struct Bare {
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Instant>>>,
    threads: Vec<JoinHandle<()>>,
}

/// From the last sign of something to the next one.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    pub begin: Instant,
    pub end: Instant,
}

impl Pause {
    pub fn length(&self) -> Duration {
        self.end - self.begin
    }

    /// How much of it lies in none of these, which do not overlap.
    pub fn outside(&self, others: &[Pause]) -> Duration {
        let shared = |other: &Pause| {
            self.end.min(other.end).saturating_duration_since(self.begin.max(other.begin))
        };
        self.length().saturating_sub(others.iter().map(shared).sum())
    }
}

/// Between two publishes to a node.
const BETWEEN: Duration = Duration::from_millis(100);
/// Acknowledgements that are further apart than this are a pause.
const PAUSE: Duration = Duration::from_millis(400);

impl Bare {
    /// Publishes to this bucket, whose members find three clients in it that never move.
    pub fn start(nats: &Nats, bucket: &str) -> Bare {
        let is_over = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let threads = nats.nodes.iter().enumerate().map(|(number, node)| {
            let publisher = Publisher {
                address: node.address,
                subject: format!("$KV.{bucket}.bare{number}"),
                value: format!("UPDATELOC bare{number} +1.0-2.0 1.5 Bare +0.500000000"),
                is_over: Arc::clone(&is_over),
                acknowledged: Arc::clone(&acknowledged),
            };
            thread::spawn(move || publisher.run())
        });
        Bare { threads: threads.collect(), is_over, acknowledged }
    }

    /// How long NATS has acknowledged nothing on any connection, each time.
    pub fn end(mut self) -> Vec<Pause> {
        self.stop();
        let mut acknowledged = self.acknowledged.lock().expect("nobody panics with it").clone();
        acknowledged.sort_unstable();
        let between = acknowledged.windows(2).map(|two| Pause { begin: two[0], end: two[1] });
        between.filter(|pause| pause.length() > PAUSE).collect()
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Publisher {
    address: SocketAddr,
    subject: String,
    value: String,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Instant>>>,
}

impl Publisher {
    fn run(self) {
        while !self.is_over.load(Ordering::SeqCst) {
            if self.publish().is_err() {
                thread::sleep(BETWEEN); // It does not run, or has ended.
            }
        }
    }

    /// Publishes on one connection until that or the test ends.
    fn publish(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
        stream.set_write_timeout(Some(BETWEEN))?;
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        stream.set_nodelay(true)?;
        let hello = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB _bare 1\r\n";
        stream.write_all(hello.replace("_bare", &self.inbox()).as_bytes())?;
        let (mut input, mut bytes) = (Vec::new(), [0; 1 << 12]);
        let mut next = Instant::now();
        while !self.is_over.load(Ordering::SeqCst) {
            if Instant::now() >= next {
                next += BETWEEN;
                let (value, size) = (&self.value, self.value.len());
                let publish =
                    format!("PUB {} {} {size}\r\n{value}\r\n", self.subject, self.inbox());
                stream.write_all(publish.as_bytes())?;
            }
            match stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => input.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = input.drain(..=end).collect();
                self.hear(&String::from_utf8_lossy(&line), &mut stream)?;
            }
        }
        Ok(())
    }

    /// Each subject for answers is of one connection's publisher.
    fn inbox(&self) -> String {
        format!("_INBOX.{}", self.subject.replace('$', ""))
    }

    fn hear(&self, line: &str, stream: &mut TcpStream) -> std::io::Result<()> {
        if line.starts_with("PING") {
            stream.write_all(b"PONG\r\n")?;
        } else if line.starts_with("{\"stream\":") && line.contains("\"seq\":") {
            self.acknowledged.lock().expect("nobody panics with it").push(Instant::now());
        }
        Ok(())
    }
}
