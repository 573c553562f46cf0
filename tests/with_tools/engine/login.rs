//! Claim: whatever a NATS server objects to, one error names the server and what to do, the member goes on trying, and it
//! is in sync once an operator has changed that. No secret is in any log.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::eye::Eye;
use super::members::{errors, members, tell, wait_until_in_sync};
use super::nats::{Nats, Plan, Release};
use crate::common::needs::Outcome;
use crate::common::{LIMIT, ServerProcess, Setup, wait_until};

pub const SECRET: &str = "s3cret-of-the-test";
const WRONG: &str = "wr0ng-of-the-test";
/// The key pair of a user, made for this test alone.
pub const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
/// Of somebody else.
const OTHER: &str = "UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN";
pub const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

pub fn plan(more: &str) -> Plan<'static> {
    Plan { more: more.to_owned(), ..Plan::one(Release::Current) }
}

/// The member `Goloman`, whose secret is in the file `secret` of the folder of NATS.
pub fn member(nats: &Nats, more: &str, secret: &str) -> (Setup, ServerProcess) {
    let file = nats.file("secret", secret);
    private(&file);
    let more = more.replace("{secret}", file.to_str().expect("text"));
    let setup = members(nats, &["Goloman"], &more);
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    (setup, server)
}

pub fn private(file: &Path) {
    let mut chmod = Command::new("chmod");
    assert!(chmod.arg("600").arg(file).status().expect("chmod runs").success());
}

/// The records of this level that name the engine.
pub fn records(server: &ServerProcess, level: &str) -> Vec<String> {
    let level = format!(" - {level}: ");
    let log = server.log();
    let of_level = log.lines().filter(|line| line.contains(&level) && line.contains("ngine"));
    of_level.map(str::to_owned).collect()
}

/// Waits for one error with this text, which names the server and is counted in this class; later there is still only
/// that one.
pub fn expect_error(server: &ServerProcess, at: SocketAddr, class: &str, text: &str) {
    expect_errors(server, at, class, &[text.to_owned()]);
}

/// The same with several texts, one error each.
pub fn expect_errors(server: &ServerProcess, at: SocketAddr, class: &str, texts: &[String]) {
    for text in texts {
        wait_until(LIMIT, &format!("an error says {text:?}"), || {
            records(server, "ERROR").iter().any(|record| record.contains(text))
        });
    }
    let said = records(server, "ERROR");
    assert_eq!(said.len(), texts.len(), "{said:#?}");
    assert!(said.iter().all(|it| it.contains(&at.to_string())), "{said:?}");
    assert!(errors(server, class) > 0, "{class}");
    assert_eq!(
        server.client().ask("WHATSAT nobody 0 0"),
        "? WHATSAT nobody 0 0",
        "others are served"
    );
}

pub fn hides(server: &ServerProcess, secrets: &[&str]) {
    let said = server.log() + &server.stderr();
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} is in the log: {said}");
    }
}

pub fn a_wrong_password_is_one_error_and_a_rotated_one_is_read_again() -> Outcome {
    let login = format!("authorization {{ user: herd, password: {SECRET} }}\n");
    let nats = Nats::start(&plan(&login))?;
    let (_setup, server) = member(&nats, "user = \"herd\"\npassword_file = \"{secret}\"", WRONG);
    expect_error(
        &server,
        nats.nodes[0].address,
        "refused",
        "refuses the login (Authorization Violation): check user",
    );
    nats.file("secret", &format!("{SECRET}\n"));
    wait_until_in_sync(&server, 1);
    tell(&server, "kiwi", 1);
    hides(&server, &[SECRET, WRONG]);
    Ok(())
}

pub fn a_wrong_token_is_one_error_and_a_rotated_one_is_read_again() -> Outcome {
    let nats = Nats::start(&plan(&format!("authorization {{ token: {SECRET} }}\n")))?;
    let (_setup, server) = member(&nats, "token_file = \"{secret}\"", WRONG);
    expect_error(&server, nats.nodes[0].address, "refused", "check the file of token_file");
    nats.file("secret", SECRET);
    wait_until_in_sync(&server, 1);
    hides(&server, &[SECRET, WRONG]);
    Ok(())
}

pub fn an_nkey_proves_who_a_member_is_and_an_unknown_one_is_one_error() -> Outcome {
    let known = format!("authorization {{ users: [{{ nkey: {PUBLIC} }}] }}\n");
    let nats = Nats::start(&plan(&known))?;
    let (_setup, server) = member(&nats, "nkey_file = \"{secret}\"", SEED);
    wait_until_in_sync(&server, 1);
    hides(&server, &[SEED]);
    let nats = Nats::start(&plan(&known.replace(PUBLIC, OTHER)))?;
    let (_setup, server) = member(&nats, "nkey_file = \"{secret}\"", SEED);
    expect_error(
        &server,
        nats.nodes[0].address,
        "refused",
        "check that the public key of the seed in nkey_file",
    );
    hides(&server, &[SEED]);
    Ok(())
}

pub fn a_login_without_credentials_is_one_error_that_names_the_settings() -> Outcome {
    let nats = Nats::start(&plan(&format!("authorization {{ token: {SECRET} }}\n")))?;
    let (_setup, server) = member(&nats, "", "");
    expect_error(
        &server,
        nats.nodes[0].address,
        "refused",
        "set user and password_file, token_file",
    );
    Ok(())
}

pub fn a_file_that_holds_no_secret_is_one_error_that_names_the_file() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let (_setup, server) = member(&nats, "nkey_file = \"{secret}\"", "SUNOTASEED");
    expect_error(&server, nats.nodes[0].address, "refused", "[engine] nkey_file");
    hides(&server, &["SUNOTASEED"]);
    Ok(())
}

pub fn a_server_without_jetstream_is_one_error_and_members_wait_for_it() -> Outcome {
    let nats = Nats::start(&Plan { jetstream: false, ..plan("") })?;
    let (_setup, server) = member(&nats, "", "");
    expect_error(&server, nats.nodes[0].address, "bucket", "JetStream");
    Ok(())
}

/// What a login with a password of another user of NATS reads is not a part of this: nats-py sees the bucket.
pub fn what_a_member_writes_with_a_login_is_read_with_another() -> Outcome {
    let users = format!(
        "authorization {{ users: [{{ user: herd, password: {SECRET} }}, {{ user: eye, password: eye }}] }}\n"
    );
    let nats = Nats::start(&plan(&users))?;
    let (_setup, server) = member(&nats, "user = \"herd\"\npassword_file = \"{secret}\"", SECRET);
    wait_until_in_sync(&server, 1);
    tell(&server, "kiwi", 7);
    let login = serde_json::json!({ "user": "eye", "password": "eye" });
    let mut eye = Eye::open_with(&nats, &login, None)?;
    eye.wait_for("herd", "kiwi", |value| value.contains(" 7"));
    Ok(())
}

/// Whoever listens there is no server of NATS.
pub fn a_listener_that_does_not_speak_the_protocol_is_named_and_counted() -> Outcome {
    let (_setup, server, at) = member_of(b"SSH-2.0-OpenSSH_9.2\r\n")?;
    server.wait_for_log(&format!("The engine at {at} can't be reached"));
    assert!(errors(&server, "protocol") > 0);
    assert_eq!(errors(&server, "unreachable"), 0);
    Ok(())
}

/// The INFO of an earlier release, by hand: no package has that release.
pub fn a_server_that_is_too_old_is_one_error_that_names_both_versions() -> Outcome {
    let info = "INFO {\"server_id\":\"NA\",\"server_name\":\"old\",\"version\":\"2.8.4\",\"proto\":1,\"headers\":true,\
                \"max_payload\":1048576,\"jetstream\":true,\"client_id\":5}\r\n+OK\r\nPONG\r\n";
    let (_setup, server, at) = member_of(info.as_bytes())?;
    let text = "NATS is 2.8.4, and 2.9.0 is the earliest version that can be used";
    expect_error(&server, at, "bucket", text);
    Ok(())
}

/// A member of which this is all that it hears, at this address.
fn member_of(
    text: &'static [u8],
) -> Result<(Setup, ServerProcess, SocketAddr), crate::common::needs::Missing> {
    let nats = Nats::prepare(&plan(""))?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        use std::io::Write;
        let mut all = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            _ = stream.write_all(text);
            all.push(stream);
        }
    });
    let setup = members(&nats, &["Goloman"], "");
    let mut command = setup.command("Goloman"); // It writes the configuration, which this one replaces.
    command.args(["--admin", "0"]);
    let urls = format!("{:?}", nats.urls());
    let text = setup.toml("Goloman").replace(&urls, &format!("[\"nats://{at}\"]"));
    std::fs::write(setup.folder.path().join("Goloman.toml"), text).expect("a file");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    Ok((setup, server, at))
}
