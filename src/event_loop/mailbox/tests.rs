//! Messages and threads alone: without a loop.

use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::*;

fn inbox() -> (Poll, Inbox<String>) {
    let poll = Poll::new().expect("a poll");
    let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
    let sources = Sources::new(poll.registry().try_clone().expect("a registry"));
    (poll, Inbox::new(Arc::new(waker), Arc::new(sources)))
}

/// Waits for the next thing as the loop does: for a wake-up, then until the channel is empty.
fn next(poll: &mut Poll, inbox: &mut Inbox<String>) -> Incoming<String> {
    let until = Instant::now() + Duration::from_secs(20);
    let mut events = Events::with_capacity(8);
    loop {
        if let Some(incoming) = inbox.poll() {
            return incoming;
        }
        let left = until.checked_duration_since(Instant::now()).expect("something comes");
        poll.poll(&mut events, Some(left)).expect("a poll");
    }
}

fn message(poll: &mut Poll, inbox: &mut Inbox<String>) -> String {
    match next(poll, inbox) {
        Incoming::Message(message) => message,
        _ => panic!("not a message"),
    }
}

fn job(run: impl FnOnce() -> String + Send + 'static) -> Job<String> {
    Job { name: "job", run: Box::new(run), failed: Box::new(|why| format!("failed: {why}")) }
}

#[test]
fn a_job_that_panics_sends_its_failure_message_and_the_next_one_runs() {
    let (mut poll, mut inbox) = inbox();
    inbox.run(job(|| panic!("out of luck")));
    assert_eq!(message(&mut poll, &mut inbox), "failed: its thread panicked: out of luck");
    assert_eq!(inbox.jobs.busy, 0);
    let twice = Box::new(|_: String| -> String { panic!("again") });
    inbox.run(Job { name: "job", run: Box::new(|| panic!("first")), failed: twice });
    inbox.run(job(|| "well".to_owned()));
    assert_eq!(message(&mut poll, &mut inbox), "well");
    let until = Instant::now() + Duration::from_secs(20);
    while inbox.jobs.busy > 0 && Instant::now() < until {
        assert!(inbox.poll().is_none());
        thread::yield_now();
    }
    assert_eq!(inbox.jobs.busy, 0, "a job without a message counts as ended, too");
}

#[test]
fn a_job_fails_if_no_thread_can_be_started() {
    let (mut poll, mut inbox) = inbox();
    inbox.jobs.busy = 1;
    let Job { name, run, failed } = job(|| "well".to_owned());
    let task = Task {
        name,
        run: Box::new(move || Sent::Done(Some(run()))),
        failed: Box::new(move |reason| Sent::Done(Some(failed(reason)))),
    };
    drop(Reported { task: Some(task), mailbox: inbox.mailbox() });
    let text = message(&mut poll, &mut inbox);
    assert_eq!(text, "failed: no thread can be started for it");
}

#[test]
fn jobs_are_bounded_and_look_ups_have_threads_of_their_own() {
    let (mut poll, mut inbox) = inbox();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    for _ in 0..2 * MAX_JOBS {
        let released = Arc::clone(&released);
        inbox.run(job(move || {
            let _ = released.lock().expect("nobody panics").recv();
            "released".to_owned()
        }));
    }
    assert_eq!((inbox.jobs.busy, inbox.jobs.waiting.len()), (MAX_JOBS, MAX_JOBS));
    inbox.look_up("127.0.0.1:9".to_owned());
    match next(&mut poll, &mut inbox) {
        Incoming::LookedUp { name, result } => {
            assert_eq!(name, "127.0.0.1:9");
            assert_eq!(result.expect("itself"), [SocketAddr::from(([127, 0, 0, 1], 9))]);
        }
        _ => panic!("no job has ended"),
    }
    drop(release);
    for _ in 0..2 * MAX_JOBS {
        assert_eq!(message(&mut poll, &mut inbox), "released");
        assert!(inbox.jobs.busy <= MAX_JOBS);
    }
    assert_eq!((inbox.jobs.busy, inbox.look_ups.busy), (0, 0));
}

/// The names of many hosts may share a silent server, while the next name has another server.
#[test]
fn forty_names_that_hang_do_not_delay_another_one() {
    let (mut poll, mut inbox) = inbox();
    inbox.look_ups.busy = 40;
    inbox.look_up("127.0.0.1:9".to_owned());
    assert!(inbox.look_ups.waiting.is_empty(), "it has a thread");
    assert!(matches!(next(&mut poll, &mut inbox), Incoming::LookedUp { .. }));
}

#[test]
fn a_mailbox_outlives_its_loop_and_says_so() {
    let (_poll, inbox) = inbox();
    let mailbox = inbox.mailbox();
    assert!(mailbox.send("one".to_owned()).is_ok());
    drop(inbox);
    assert!(mailbox.send("two".to_owned()).is_err() && mailbox.stop().is_err());
}
