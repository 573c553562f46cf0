//! Claim: with `ack = "disk"` a server without neighbours loses nothing that it has answered, however often it is killed;
//! a second server on the same directory is refused; and a server that is held in the midst of it goes on where it was.

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use common::{LIMIT, Next, Setup, random, run_to_end, wait_until};

const WRITERS: usize = 4;
const IDS: usize = 40;

fn setup(loops: usize) -> Setup {
    let setup = Setup::alone().top(&format!("loops = {loops}"));
    let dir = setup.folder.path().join("state");
    setup.section(&format!("[state]\ndir = {:?}\nack = \"disk\"", dir.display().to_string()))
}

/// Writers tell where their clients are until the server is killed; the next one knows all that was answered.
fn kill_again_and_again(loops: usize, kills: usize) {
    let setup = setup(loops);
    let answered = Mutex::new(BTreeMap::<String, usize>::new());
    let (mut state, mut second) = (loops as u64 + 5, 0);
    for kill in 0..kills {
        let server = setup.start("Goloman");
        let known = answered.lock().expect("nobody panicked").clone();
        let mut reader = server.client();
        for (id, told) in known {
            let answer = reader.whatsat(&id, "0", "0").first;
            let known = answer.split(' ').nth(4).and_then(|time| time.trim().parse::<usize>().ok());
            assert!(known >= Some(told), "kill {kill}: {id} was answered at {told}: {answer}");
        }
        let before = answered.lock().expect("nobody panicked").values().sum::<usize>();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (mut client, answered) = (server.client(), &answered);
                scope.spawn(move || {
                    for at in second + 1.. {
                        let id = format!("w{writer}.{}", at % IDS);
                        let line = format!("IAMAT {id} +1.0+2.0 {at}\n");
                        if client.try_send(line).is_err() {
                            return;
                        }
                        match client.next(LIMIT) {
                            Next::Line(line) => {
                                let expected = format!("AT AT {id} +1.0+2.0 {at}");
                                assert_eq!(String::from_utf8_lossy(&line).trim_end(), expected);
                            }
                            _ => return,
                        }
                        answered.lock().expect("nobody panicked").insert(id, at);
                    }
                });
            }
            let advances = || answered.lock().expect("nobody panicked").values().sum::<usize>();
            wait_until(LIMIT, "updates are answered", || advances() > before);
            // At whatever point of a transaction.
            thread::sleep(Duration::from_micros((random::next(&mut state) % 60_000) as u64));
            server.kill();
        });
        second = answered.lock().expect("nobody panicked").values().copied().max().unwrap_or(0) + 1;
    }
    assert!(second > kills, "{second}");
    println!("{kills} kills, up to second {second}");
}

#[test]
fn nothing_answered_is_lost_by_kills() {
    kill_again_and_again(1, 10);
}

#[test]
fn nothing_answered_is_lost_by_kills_of_two_loops() {
    kill_again_and_again(2, 5);
}

#[test]
#[ignore = "a minute; just durability"]
fn nothing_answered_is_lost_by_a_hundred_kills() {
    kill_again_and_again(1, 100);
    kill_again_and_again(2, 100);
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_and_the_first_goes_on_after_it_was_held() {
    let setup = setup(1).any_port();
    let server = setup.start("Goloman");
    assert_eq!(server.client().ask("IAMAT a +1.0+2.0 1"), "AT AT a +1.0+2.0 1");
    let ended = run_to_end(setup.command("Goloman"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let dir = setup.folder.path().join("state");
    assert!(ended.stderr.contains(&format!("{} is in use", dir.display())), "{}", ended.stderr);
    for option in ["--dump-state", "--load-state"] {
        let mut command = setup.command("Goloman");
        let ended = run_to_end({
            command.arg(option);
            command
        });
        assert!(ended.stderr.contains("is in use"), "{option}: {}", ended.stderr);
    }
    // In a transaction, or between two.
    let mut client = server.client();
    for second in 2..12 {
        client.send(format!("IAMAT a +1.0+2.0 {second}\n"));
        server.hold();
        server.signal(rustix::process::Signal::CONT);
        assert_eq!(client.line(), format!("AT AT a +1.0+2.0 {second}"));
    }
    drop(client);
    assert!(server.stop().success());
    let server = setup.start("Goloman");
    assert_eq!(server.client().whatsat("a", "0", "0").first, "AT AT a +1.0+2.0 11");
}
