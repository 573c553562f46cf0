//! The sockets of syslog and journald: each record is a datagram. The daemon may not be there yet, may restart, and
//! may not read: records that it can't be given are counted, and it is looked for again with the next ones.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::thread;

use rustix::io::Errno;

use super::layout;
use super::output::{Output, Refused};
use crate::limits::{LOG_SOCKET_RETRY, LOG_SOCKET_WAIT};

pub(super) struct Datagrams {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Datagrams {
    /// It connects when it is written to, because its daemon may start later.
    pub(super) fn new(path: PathBuf) -> Datagrams {
        Datagrams { path, socket: None }
    }

    /// The socket, connected if `may_connect`, which is then false: one attempt for each text is enough.
    fn socket(&mut self, may_connect: &mut bool) -> io::Result<&UnixDatagram> {
        if self.socket.is_none() && std::mem::take(may_connect) {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            socket.set_write_timeout(Some(LOG_SOCKET_WAIT))?;
            self.socket = Some(socket);
        }
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn send(
        &mut self,
        datagram: &[u8],
        may_connect: &mut bool,
        may_wait: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let mut datagram = datagram;
        let mut shorter;
        loop {
            let error = match self.socket(may_connect)?.send(datagram) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match Errno::from_io_error(&error) {
                Some(Errno::INTR) => {}
                // The wait has ended, and the daemon has still read nothing.
                Some(Errno::AGAIN) if may_wait() => {}
                // The kernel has no memory for it now, or (elsewhere than on Linux) the daemon's queue is full.
                Some(Errno::NOBUFS) if may_wait() => thread::sleep(LOG_SOCKET_RETRY),
                Some(Errno::MSGSIZE) if datagram.len() > MIN_CUT_BYTES => {
                    shorter = cut(datagram);
                    datagram = &shorter;
                }
                // The daemon has ended. Another one may have its name already.
                Some(Errno::CONNREFUSED | Errno::NOTCONN | Errno::CONNRESET | Errno::PIPE) => {
                    self.socket = None;
                    if !*may_connect {
                        return Err(error);
                    }
                }
                _ => return Err(error),
            }
        }
    }
}

impl Output for Datagrams {
    fn write(&mut self, text: &[u8], may_wait: &mut dyn FnMut() -> bool) -> Result<(), Refused> {
        let mut may_connect = true;
        let mut has_given_up = false;
        let mut refused: Option<Refused> = None;
        for datagram in layout::datagrams(text) {
            let has_ended = has_given_up;
            let mut may_wait = || {
                has_given_up = !may_wait();
                !has_given_up
            };
            let sent = match has_ended {
                true => Err(io::ErrorKind::TimedOut.into()),
                false => self.send(datagram, &mut may_connect, &mut may_wait),
            };
            if let Err(error) = sent {
                // The first reason says most: later ones are only that there is no connection.
                refused.get_or_insert(Refused { records: 0, error }).records += 1;
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Connects again with the next record.
    fn reopen(&mut self) -> io::Result<bool> {
        self.socket = None;
        Ok(false)
    }
}

/// The first half of a datagram, with the newline that the message of a journal's entry needs. The message is at
/// its end, so only that becomes shorter.
fn cut(datagram: &[u8]) -> Vec<u8> {
    let has_newline = datagram.ends_with(b"\n");
    let mut end = datagram.len() / 2;
    while end > 0 && datagram[end] & 0xc0 == 0x80 {
        end -= 1; // Not between the bytes of one character.
    }
    let mut shorter = datagram[..end].to_vec();
    shorter.extend(has_newline.then_some(b'\n'));
    shorter
}

/// Half of the shortest datagram that is cut: all that comes before a short message fits into it.
const MIN_CUT_BYTES: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(datagrams: &[&[u8]]) -> Vec<u8> {
        let mut text = Vec::new();
        for datagram in datagrams {
            let begin = layout::begin_datagram(&mut text);
            text.extend_from_slice(datagram);
            layout::end_datagram(&mut text, begin);
        }
        text
    }

    fn received(daemon: &UnixDatagram) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let count = daemon.recv(&mut bytes).expect("a datagram");
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn a_daemon_that_is_not_there_costs_its_records_and_is_found_when_it_comes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut output = Datagrams::new(path.clone());
        let mut never = || false;
        let refused = output.write(&text(&[b"a", b"b"]), &mut never).expect_err("nobody is there");
        assert_eq!((refused.records, refused.error.kind()), (2, io::ErrorKind::NotFound));
        for round in 0..2 {
            let daemon = UnixDatagram::bind(&path).expect("a socket");
            output.write(&text(&[b"c", b"d"]), &mut never).expect("it is there");
            assert_eq!([received(&daemon), received(&daemon)], [b"c", b"d"], "round {round}");
            std::fs::remove_file(&path).expect("it is there");
        }
        let refused = output.write(&text(&[b"e"]), &mut never).expect_err("it is gone");
        assert_eq!(refused.records, 1);
    }

    #[test]
    fn a_daemon_that_does_not_read_is_waited_for_until_the_wait_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).expect("a socket");
        let mut output = Datagrams::new(path);
        let mut waits = 0;
        let many = vec![&b"a"[..]; 100_000];
        let refused = output.write(&text(&many), &mut || {
            waits += 1;
            waits == 1
        });
        let refused = refused.expect_err("its queue is full");
        daemon.set_nonblocking(true).expect("it is ours");
        let mut kept = 0;
        while daemon.recv(&mut [0; 1]).is_ok() {
            kept += 1;
        }
        assert_eq!(refused.records + kept, 100_000);
        assert!(waits > 1 && kept > 0, "{waits} waits, {kept} kept");
    }

    #[test]
    fn a_datagram_that_is_too_long_for_the_socket_is_cut_between_two_characters() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).expect("a socket");
        let mut output = Datagrams::new(path);
        socket2::SockRef::from(output.socket(&mut true).expect("it is there"))
            .set_send_buffer_size(4_096)
            .expect("a size");
        let long = format!("PRIORITY=6\nMESSAGE={}\n", "€".repeat(10_000));
        output.write(&text(&[long.as_bytes()]), &mut || false).expect("it is cut");
        let first = String::from_utf8(received(&daemon)).expect("whole characters");
        assert!(first.ends_with("€\n") && long.starts_with(first.trim_end()), "{}", first.len());
        assert!(first.len() > 1_000, "{}", first.len());
        output.write(&text(&[b"short\n"]), &mut || false).expect("it is short");
        assert_eq!(received(&daemon), b"short\n");
    }
}
