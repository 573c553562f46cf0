//! Echo: sends each line back. It is the smallest application of the event loop.
//! Try it: `cargo run --example echo 4001`, and in another terminal `nc localhost 4001`.

use herd_mio::application::{Application, Io, Line, ListenerId, Never, Next, Opened, Policy};
use herd_mio::event_loop::{EventLoop, Limits, Listen};

struct Echo;

impl Application for Echo {
    type Session = ();
    type Message = Never;

    fn handle_open(&mut self, _opened: Opened<'_>, _io: &mut Io<'_>) -> Option<((), Policy)> {
        Some(((), Policy::lines(4096)))
    }

    fn handle_line(&mut self, _session: &mut (), line: Line<'_>, io: &mut Io<'_>) -> Next {
        let (Line::Whole(text) | Line::Unfinished(text)) = line else {
            return Next::Finish; // It is longer than 4096 bytes.
        };
        io.out.extend_from_slice(text);
        io.out.push(b'\n');
        Next::Read
    }
}

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).map_or(4001, |port| port.parse().expect("a port"));
    let mut event_loop = EventLoop::new(Echo, Limits::default())?;
    let address = event_loop.listen(Listen::on(ListenerId(0), ([127, 0, 0, 1], port).into()))?;
    println!("listening on {address}");
    event_loop.run().map(drop)
}
