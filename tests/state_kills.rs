//! Claim: with `ack = "disk"` a server without neighbours loses nothing that it has answered, however often it is killed;
//! a second server on the same directory is refused; and a server that is held in the midst of it goes on where it was.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use common::{LIMIT, Next, Setup, random, run_to_end};

const WRITERS: usize = 4;
/// Lines that each sends at once: a transaction of so many takes long enough to be killed in the midst of it.
const IDS: usize = 400;

fn setup(loops: usize) -> Setup {
    let setup = Setup::alone().top(&format!("loops = {loops}"));
    let dir = setup.folder.path().join("state");
    setup.section(&format!("[state]\ndir = {:?}\nack = \"disk\"", dir.display().to_string()))
}

/// Writers tell where their clients are until the server is killed, just behind one of their answers; the next server knows
/// all that was answered.
fn kill_again_and_again(loops: usize, kills: usize) {
    let setup = setup(loops);
    let answered = Mutex::new(BTreeMap::<String, usize>::new());
    let mut state = loops as u64 + 5;
    let mut server = setup.start("Goloman");
    for kill in 0..kills {
        // An answer that came before its transaction is found out where the others of it are still being written.
        let last = 1 + random::next(&mut state) % (3 * WRITERS * IDS);
        let (answers, news) = (AtomicUsize::new(0), mpsc::sync_channel(1));
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (mut client, answered) = (server.client(), &answered);
                let (answers, enough) = (&answers, news.0.clone());
                scope.spawn(move || {
                    for second in 10 * kill + 1..10 * kill + 10 {
                        let text = |id: usize| format!("w{writer}.{id} +1.0+2.0 {second}");
                        let lines = (0..IDS).map(|id| format!("IAMAT {}\n", text(id)));
                        if client.try_send(lines.collect::<String>()).is_err() {
                            return;
                        }
                        for id in 0..IDS {
                            let Next::Line(line) = client.next(LIMIT) else { return };
                            let expected = format!("AT AT {}", text(id));
                            assert_eq!(String::from_utf8_lossy(&line).trim_end(), expected);
                            let id = format!("w{writer}.{id}");
                            answered.lock().expect("nobody panicked").insert(id, second);
                            if answers.fetch_add(1, Ordering::SeqCst) + 1 == last {
                                let _ = enough.try_send(());
                            }
                        }
                    }
                });
            }
            news.1.recv_timeout(LIMIT).expect("updates are answered");
            server.kill();
        });
        server = setup.start("Goloman");
        let mut reader = server.client();
        let answered = answered.lock().expect("nobody panicked");
        reader.send(answered.keys().map(|id| format!("WHATSAT {id} 0 0\n")).collect::<String>());
        for (id, told) in answered.iter() {
            let answer = reader.answer().first;
            let known = answer.split(' ').nth(4).and_then(|time| time.trim().parse::<usize>().ok());
            assert!(known >= Some(*told), "kill {kill}: {id} was answered at {told}: {answer}");
        }
        println!("kill {kill} behind {last} answers: {} clients are known", answered.len());
    }
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
#[ignore = "a minute; just kills"]
fn nothing_answered_is_lost_by_a_hundred_kills() {
    kill_again_and_again(1, 100);
    kill_again_and_again(2, 100);
}

/// Else a backup of a mistyped directory would be empty, and nobody would know until it is needed.
#[test]
fn a_dump_of_a_database_that_is_not_there_is_refused_and_makes_none() {
    let setup = setup(1);
    let mut command = setup.command("Goloman");
    command.arg("--dump-state");
    let ended = run_to_end(command);
    let dir = setup.folder.path().join("state");
    let says = format!("there is no database {}", dir.join("Goloman.redb").display());
    assert!(ended.stderr.contains(&says), "{}", ended.stderr);
    assert_eq!((ended.code, dir.exists()), (Some(2), false), "{}", ended.stderr);
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
