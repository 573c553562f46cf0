//! A herd moves from flooding to the engine and back, one server after the other, and clients write all the time: after
//! each step all servers know the same, and all that was answered.

use std::time::Duration;

use super::eye::Eye;
use super::members::{Place, Writers};
use super::nats::{Nats, Release};
use crate::common::needs::Outcome;
use crate::common::{ServerProcess, Setup};

const BUCKET: &str = "herd";
const NAMES: [&str; 3] = ["Goloman", "Hands", "Holiday"];

/// Which servers are members, and whom Goloman has for neighbours.
#[derive(Clone, Copy, Debug)]
struct Step {
    restarted: usize,
    members: &'static [&'static str],
    neighbours: &'static [&'static str],
}

/// There, and back.
const STEPS: [Step; 8] = [
    Step { restarted: 0, members: &["Goloman"], neighbours: &["Hands", "Holiday"] },
    Step { restarted: 1, members: &["Goloman", "Hands"], neighbours: &["Holiday"] },
    Step { restarted: 2, members: &["Goloman", "Hands", "Holiday"], neighbours: &[] },
    Step { restarted: 0, members: &["Goloman", "Hands", "Holiday"], neighbours: &[] },
    Step {
        restarted: 0,
        members: &["Goloman", "Hands", "Holiday"],
        neighbours: &["Hands", "Holiday"],
    },
    Step { restarted: 2, members: &["Goloman", "Hands"], neighbours: &["Hands", "Holiday"] },
    Step { restarted: 1, members: &["Goloman"], neighbours: &["Hands", "Holiday"] },
    Step { restarted: 0, members: &[], neighbours: &["Hands", "Holiday"] },
];

pub fn a_herd_moves_to_the_engine_and_back_while_clients_write_for_a_minute() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = Setup::star(&["Hands", "Holiday"]).heartbeat("1s");
    let places = Place::all(&setup);
    let flood = Step { restarted: 0, members: &[], neighbours: &["Hands", "Holiday"] };
    let mut servers: Vec<ServerProcess> =
        (0..3).map(|at| start(&setup, &nats, Step { restarted: at, ..flood })).collect();
    for step in STEPS {
        let writers = Writers::start(4, &places);
        writers.write_for(Duration::from_secs(1));
        let server = servers.remove(step.restarted);
        assert!(server.stop().success(), "{step:?}");
        servers.insert(step.restarted, start(&setup, &nats, step));
        writers.write_for(Duration::from_secs(1));
        let written = writers.end();
        println!("{step:?}: {} answered", written.answers);
        written.is_known(&places);
        if !step.members.is_empty() {
            written.is_kept(&mut eye, BUCKET, &places);
        }
    }
    Ok(())
}

fn start(setup: &Setup, nats: &Nats, step: Step) -> ServerProcess {
    let name = NAMES[step.restarted];
    let command = setup.command(name); // It writes the configuration, which this one replaces.
    let mut text = setup.toml(name).replace(
        "neighbours = [\"Hands\", \"Holiday\"]",
        &format!("neighbours = {:?}", step.neighbours),
    );
    text += "[places]\nprovider = \"offline\"\n";
    if !step.members.is_empty() {
        text += &nats.section(&format!("members = {:?}\n", step.members));
    }
    std::fs::write(setup.folder.path().join(format!("{name}.toml")), text).expect("a file");
    ServerProcess::spawn(command, name, setup.log_file(name))
}
