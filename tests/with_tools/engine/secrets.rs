//! Claim: a secret leaves a member in CONNECT to its server of NATS, and by no other write; a seed never leaves it.

use crate::common::needs::{Outcome, kernel, tool};
use crate::common::process::through;
use crate::common::{LIMIT, ServerProcess, wait_until};

use super::jwt::Realm;
use super::login::{PUBLIC, SEED, private};
use super::members::{members, tell, wait_until_in_sync};
use super::nats::{Nats, Plan, Release};

const PASSWORD: &str = "s3cret-of-the-trace";
const TOKEN: &str = "t0ken-of-the-trace";

pub fn no_secret_is_written_but_in_connect() -> Outcome {
    let mut strace = tool("strace")?;
    let traced = strace.args(["-qq", "-o", "/dev/null", "true"]).status();
    kernel(traced.is_ok_and(|status| status.success()), "strace may not trace here")?;
    let of = |more: &str| Plan { more: more.to_owned(), ..Plan::one(Release::Current) };
    let nats =
        Nats::start(&of(&format!("authorization {{ user: herd, password: {PASSWORD} }}\n")))?;
    let login = "user = \"herd\"\npassword_file = \"{secret}\"";
    trace(&nats, login, PASSWORD, &[PASSWORD], &[]);
    let nats = Nats::start(&of(&format!("authorization {{ token: {TOKEN} }}\n")))?;
    trace(&nats, "token_file = \"{secret}\"", TOKEN, &[TOKEN], &[]);
    let nats = Nats::start(&of(&format!("authorization {{ users: [{{ nkey: {PUBLIC} }}] }}\n")))?;
    trace(&nats, "nkey_file = \"{secret}\"", SEED, &[], &[SEED]);
    let realm = Realm::new();
    let nats = realm.start()?;
    let (jwt, seed) = (realm.jwt(None), realm.seed());
    trace(&nats, "creds_file = \"{secret}\"", &Realm::creds(&jwt, &seed), &[&jwt], &[&seed]);
    Ok(())
}

/// Traces what a member writes from its start to its end, with everything logged. `shown` is in CONNECT, and `hidden` is
/// nowhere.
fn trace(nats: &Nats, login: &str, secret: &str, shown: &[&str], hidden: &[&str]) {
    let file = nats.file("secret", secret);
    private(&file);
    let login = login.replace("{secret}", file.to_str().expect("text"));
    let setup = members(nats, &["Goloman"], &login);
    let trace = setup.folder.path().join("trace");
    let mut command = setup.command("Goloman");
    command.args(["--admin", "127.0.0.1:0", "--log-level", "trace"]);
    let trace_file = trace.to_str().expect("text");
    let calls = "trace=write,writev,pwrite64,sendto,sendmsg,sendmmsg";
    // With -D the tracer is the server's child, and not the other way round.
    let words = ["strace", "-D", "-f", "-qq", "-s", "1000000", "-e", calls, "-o", trace_file];
    let command = through(&words, &command);
    let mut server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    wait_until_in_sync(&server, 1);
    tell(&server, "kiwi", 1);
    let metrics = crate::common::http::get(server.admin(), "/metrics").text();
    assert!(metrics.contains("herd_engine_connected{loop=\"1\"} 1"), "{metrics}");
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    let traced = || std::fs::read_to_string(&trace).unwrap_or_default();
    wait_until(LIMIT, "the trace is complete", || traced().contains("Goloman stops"));
    let traced = traced();
    let (connects, others): (Vec<&str>, Vec<&str>) =
        traced.lines().partition(|call| call.contains("\"CONNECT {"));
    assert_eq!(connects.len(), 1, "{connects:?}");
    assert!(others.len() > 10, "{others:?}");
    for secret in shown {
        assert!(connects[0].contains(secret), "{secret} is not in {connects:?}");
    }
    for secret in shown.iter().chain(hidden) {
        let told = others.iter().find(|call| call.contains(secret));
        assert!(told.is_none(), "{secret} is written: {told:?}");
    }
    for secret in hidden {
        assert!(!connects[0].contains(secret), "{secret} is sent: {connects:?}");
    }
}
