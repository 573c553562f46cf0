//! A forwarder between two servers whose links can be cut, frozen and restored.
//!
//!     server A --dials--> [ proxy ] --dials--> server B's neighbours' port

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ports::{Port, reserve};

/// Bytes pass.
const OPEN: u8 = 0;
/// Connections are closed, new ones too.
const CUT: u8 = 1;
/// Nothing passes, without an error: a pulled cable.
const FROZEN: u8 = 2;
/// The test is over.
const ENDED: u8 = 3;

/// How soon a thread notices a change of state.
const PAUSE: Duration = Duration::from_millis(5);

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<AtomicU8>,
    /// Connections made before this many [`Proxy::forget`] are forgotten.
    forgets: Arc<AtomicUsize>,
    accepting: Option<JoinHandle<()>>,
    _port: Port,
}

impl Proxy {
    /// Listens on a port of its own and forwards each connection to `target`.
    pub fn to(target: SocketAddr) -> Proxy {
        let port = reserve();
        let listener = TcpListener::bind(port.address()).expect("a reserved port");
        listener.set_nonblocking(true).expect("non-blocking");
        let state = Arc::new(AtomicU8::new(OPEN));
        let forgets = Arc::new(AtomicUsize::new(0));
        let of_thread = (Arc::clone(&state), Arc::clone(&forgets));
        let accepting = Some(std::thread::spawn(move || {
            accept(&listener, target, &of_thread.0, &of_thread.1);
        }));
        Proxy { address: port.address(), state, forgets, accepting, _port: port }
    }

    /// Closes every connection and all that come.
    pub fn cut(&self) {
        self.state.store(CUT, Ordering::SeqCst);
    }

    /// Lets nothing through, without an error at either end.
    pub fn freeze(&self) {
        self.state.store(FROZEN, Ordering::SeqCst);
    }

    /// Lets nothing more through on the connections that there are, and closes none of them: a firewall that was
    /// restarted. New ones pass.
    pub fn forget(&self) {
        self.forgets.fetch_add(1, Ordering::SeqCst);
    }

    /// Lets bytes pass again.
    pub fn restore(&self) {
        self.state.store(OPEN, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.store(ENDED, Ordering::SeqCst);
        if let Some(thread) = self.accepting.take() {
            _ = thread.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    state: &Arc<AtomicU8>,
    forgets: &Arc<AtomicUsize>,
) {
    let mut threads = Vec::new();
    loop {
        match state.load(Ordering::SeqCst) {
            ENDED => break,
            FROZEN => std::thread::sleep(PAUSE), // a connection waits in the backlog, as in a network that is silent
            now => match listener.accept() {
                Ok((near, _)) if now == OPEN => {
                    if let Ok(far) = TcpStream::connect(target) {
                        threads.extend(forward_both(&near, &far, state, forgets));
                    }
                }
                Ok(_) => {} // cut: dropped, and so closed
                Err(_) => std::thread::sleep(PAUSE),
            },
        }
    }
    for thread in threads {
        _ = thread.join();
    }
}

fn forward_both(
    near: &TcpStream,
    far: &TcpStream,
    state: &Arc<AtomicU8>,
    forgets: &Arc<AtomicUsize>,
) -> [JoinHandle<()>; 2] {
    [(near, far), (far, near)].map(|(from, to)| {
        for stream in [from, to] {
            stream.set_nonblocking(false).expect("blocking");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            stream.set_read_timeout(Some(PAUSE)).expect("a read timeout");
            stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a write timeout");
        }
        let from = from.try_clone().expect("a descriptor");
        let to = to.try_clone().expect("a descriptor");
        let (state, forgets) = (Arc::clone(state), Arc::clone(forgets));
        std::thread::spawn(move || forward(from, to, &state, &forgets))
    })
}

fn forward(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8, forgets: &AtomicUsize) {
    let mut bytes = [0; 16_384];
    let made_at = forgets.load(Ordering::SeqCst);
    loop {
        match state.load(Ordering::SeqCst) {
            CUT | ENDED => break,
            now if now == FROZEN || forgets.load(Ordering::SeqCst) > made_at => {
                std::thread::sleep(PAUSE);
                continue;
            }
            _ => {}
        }
        match from.read(&mut bytes) {
            Ok(0) => {
                _ = to.shutdown(Shutdown::Write);
                return;
            }
            // The read may have begun before.
            Ok(_) if forgets.load(Ordering::SeqCst) > made_at => {}
            Ok(count) => {
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    _ = from.shutdown(Shutdown::Both);
    _ = to.shutdown(Shutdown::Both);
}
