//! Claim: what an operator writes into `[state]` and `[engine]` is what holds; each mistake in them is reported with its
//! place and its remedy, no secret is ever printed, and `--check` says which servers use the engine.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::program::{A, PLAIN, check, file, herd_mio, server, text};
use herd_mio::config::{Config, EngineAck, EngineKeep, EngineLogin, Overrides, Part, StateAck};

/// The beginning of a section that is right.
const ENGINE: &str = "[engine]\nprovider = \"nats\"\nservers = [\"nats://127.0.0.1\"]\n";

/// Three servers: A and B are neighbours, and C has none.
fn three() -> String {
    server("A", 1200, "neighbours = [\"B\"]") + &server("B", 1201, "") + &server("C", 1202, "")
}

#[test]
fn each_mistake_is_reported_with_its_place_and_a_remedy() {
    let engine = |more: &str| format!("{ENGINE}{more}\n{}", three());
    for (contents, expected) in [
        (
            format!("[state]\ndir = \"\"\n{A}"),
            "2:7: invalid `state.dir`: \"\"; expected the path of",
        ),
        (
            format!("[state]\nack = \"both\"\n{A}"),
            "2:7: invalid `state.ack`: \"both\"; expected \"memory\" or",
        ),
        (
            format!("[state]\nack = \"disk\"\n{A}"),
            "2:7: state.ack = \"disk\" needs a state directory: set `dir`",
        ),
        (
            format!("state_dir = \"x\"\n{A}"),
            "1:1: unknown key `state_dir`; it belongs in [state], as dir",
        ),
        (
            format!("[engine]\nbucket = \"x\"\n{A}"),
            "1:1: `engine.provider` is missing; expected \"nats\"",
        ),
        (
            format!("[engine]\nprovider = \"etcd\"\n{A}"),
            "2:12: invalid `engine.provider`: \"etcd\"; expected \"nats\"",
        ),
        (
            format!("[engine]\nprovider = \"nats\"\n{A}"),
            "1:1: `engine.servers` is missing; expected a list",
        ),
        (
            engine("bucket = \"a.b\""),
            "4:10: invalid `engine.bucket`: \"a.b\"; expected a name of 1 to 64 letters",
        ),
        (engine("members = [\"D\"]"), "4:12: no server named \"D\", listed in engine.members"),
        (
            engine("members = [\"a\"]"),
            "4:12: no server named \"a\", listed in engine.members; did you mean A?",
        ),
        (engine("members = [\"A\", \"A\"]"), "4:17: `engine.members` names \"A\" more than once"),
        (
            engine("replicas = 6"),
            "4:12: invalid `engine.replicas`: 6; expected a whole number from 1 to 5",
        ),
        (
            engine("create = \"yes\""),
            "4:10: invalid `engine.create`: \"yes\"; expected true or false",
        ),
        (
            engine("ack = \"disk\""),
            "4:7: invalid `engine.ack`: \"disk\"; expected \"engine\" or \"local\"",
        ),
        (
            engine("keep = \"some\""),
            "4:8: invalid `engine.keep`: \"some\"; expected \"all\" or \"cache\"",
        ),
        (
            engine("keep = \"cache\""),
            "4:8: engine.keep = \"cache\" is for members without neighbours: A has the neighbour B, and one more member \
             has neighbours; a bridge must hold all clients",
        ),
        (
            engine("members = [\"C\", \"A\"]\nkeep = \"cache\""),
            "5:8: engine.keep = \"cache\" is for members without neighbours: A has the neighbour B; a bridge",
        ),
        (
            engine("members = [\"C\"]\nkeep = \"cache\"\n[state]\ndir = \"s\""),
            "5:8: engine.keep = \"cache\" and a state directory do not go together: C is a member, and what it has",
        ),
        (
            engine("timeout = \"500ms\""),
            "4:11: invalid `engine.timeout`: \"500ms\"; expected a time from \"1s\"",
        ),
        (
            engine("heartbeat = \"11s\""),
            "4:13: invalid `engine.heartbeat`: \"11s\"; expected a time from \"100ms\"",
        ),
        (
            engine("heartbeat = \"8s\""),
            "4:13: engine.timeout (15s) must not be shorter than two of",
        ),
        (engine("user = \"u\""), "4:8: engine.user needs `password_file` in [engine]"),
        (engine("password_file = \"p\""), "4:17: engine.password_file needs `user` in [engine]"),
        (
            engine("token_file = \"t\"\nnkey_file = \"n\""),
            "5:13: engine.token_file and engine.nkey_file are two ways",
        ),
        (engine("certificate = \"c\""), "4:15: engine.certificate and engine.key belong together"),
        (
            engine("nkey = \"SUSESAME\""),
            "4:1: unknown key `nkey` of engine; it belongs in a file of its own, which nkey_file",
        ),
        (
            engine("password = \"sesame\""),
            "4:1: unknown key `password` of engine; it belongs in a file of its own",
        ),
        (
            engine("tocken_file = \"t\""),
            "4:1: unknown key `tocken_file` of engine; did you mean token_file?",
        ),
        (
            engine("max_clients = 5"),
            "4:1: unknown key `max_clients` of engine; it belongs before all sections",
        ),
    ] {
        let output = check(&contents);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{contents}\n{said}");
        assert!(said.contains(&format!(":{expected}")), "{contents}\n{said}\nexpected {expected}");
        assert!(!said.to_lowercase().contains("sesame"), "a secret: {said}");
    }
}

#[test]
fn a_server_of_nats_is_named_by_a_url_and_without_a_user() {
    for (url, expected) in [
        ("10.0.0.2:4222", "it begins with nats:// or tls://"),
        ("ws://a:80", "WebSockets are not spoken"),
        ("nats://a:0", "nothing can connect to port 0"),
        ("nats://a/b", "nothing follows the port"),
        ("nats://me:sesame@a", "without a user (the value is not shown"),
    ] {
        let contents = format!("[engine]\nprovider = \"nats\"\nservers = [\"{url}\"]\n{A}");
        let said = text(&check(&contents).stderr);
        assert!(said.contains(":3:12: ") && said.contains(expected), "{url}: {said}");
        assert!(!said.contains("sesame"), "{said}");
    }
}

#[test]
fn a_secret_in_place_of_its_file_is_refused_and_not_shown() {
    let seed = format!("SU{}", "A".repeat(56));
    for (key, secret) in [("nkey_file", &seed[..]), ("creds_file", "eyJ0eXAiOiJKV1QifQ.x.y")] {
        let said = text(&check(format!("{ENGINE}{key} = \"{secret}\"\n{A}")).stderr);
        assert!(said.contains("looks like the secret itself"), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn what_check_prints_of_both_sections_means_the_same() {
    let set = "user = \"u\"\npassword_file = \"p\"\nbucket = \"b-1\"\nmembers = [\"C\", \"A\"]\nreplicas = 1\ncreate = false\n\
               ack = \"local\"\ntimeout = \"30s\"\nheartbeat = \"500ms\"\nca = \"ca.pem\"\ncertificate = \"c\"\nkey = \"k\"\n\
               handshake_first = true\n[state]\ndir = \"s\"\nack = \"disk\"\n";
    for more in
        ["", set, "nkey_file = \"{name}.nk\"\n", "token_file = \"t\"\n", "creds_file = \"c\"\n"]
    {
        let contents = format!("{PLAIN}{ENGINE}{more}{}", three());
        let output = check(&contents);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let meant = Config::parse(&contents).expect("check has accepted it");
        assert_eq!(Config::parse(&text(&output.stdout)), Ok(meant), "{}", text(&output.stdout));
    }
    let config = Config::parse(&format!("{ENGINE}{set}{}", three())).expect("a configuration");
    let engine = config.engine.as_ref().expect("an engine");
    assert_eq!((&engine.members[..], engine.ack), (&[0, 2][..], EngineAck::Local));
    assert_eq!((config.state.ack, engine.keep), (StateAck::Disk, EngineKeep::All));
    assert_eq!(engine.login, EngineLogin::Password { user: "u".into(), file: "p".into() });
}

#[test]
fn check_says_which_servers_are_members_and_bridges_and_warns_of_what_may_be_a_mistake() {
    let printed = |more: &str| text(&check(format!("{ENGINE}{more}\n{}", three())).stdout);
    let all = printed("");
    for part in [
        "# Engine: bucket herd of NATS (stream KV_herd)\n",
        "#   A   bridge (member with neighbours)\n",
        "#   C   member\n",
        "# warning: A and B are neighbours and both members of the engine: ",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!all.contains("groups"), "the engine joins them: {all}");
    let some = printed("members = [\"A\", \"C\"]");
    assert!(some.contains("#   B   flood only\n"), "{some}");
    assert!(!some.contains("warning: A and B"), "{some}");
    let alone = printed("members = [\"A\"]");
    assert!(alone.contains("2 groups with no link, and no engine between them"), "{alone}");
    let hasty = printed("timeout = \"9s\"");
    assert!(hasty.contains("# warning: engine.timeout is 9s: a cluster of NATS"), "{hasty}");
    assert!(!all.contains("engine.timeout is"), "{all}");
    let far = all_but_near("user = \"u\"\npassword_file = \"p\"");
    assert!(
        far.contains("engine.password_file may go to nats://10.0.0.2:4222 in plain text"),
        "{far}"
    );
}

#[test]
fn a_member_that_keeps_a_cache_is_shown_and_has_no_state_directory_of_the_command_line() {
    let cache =
        format!("max_clients = 100\n{ENGINE}keep = \"cache\"\nmembers = [\"C\"]\n{}", three());
    let output = check(&cache);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    for part in [
        "engine.keep = \"cache\"\n",
        "# Engine: bucket herd of NATS (stream KV_herd); a member keeps at most 100 of its clients\n",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let config = Config::parse(&cache).expect("check has accepted it");
    assert_eq!(config.engine.as_ref().map(|engine| engine.keep), Some(EngineKeep::Cache));
    let (_folder, path) = file(&cache);
    let words = ["--check", "--state-dir", "somewhere", "--config", path.to_str().expect("text")];
    let output = herd_mio(&words);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    let said = text(&output.stderr);
    let expected =
        ":5:8: engine.keep = \"cache\" and a state directory do not go together: C is a member";
    assert!(said.contains(expected) && said.contains("leave --state-dir out"), "{said}");
    let flood = cache.replace("members = [\"C\"]", "members = []");
    let (_folder, path) = file(flood);
    let words = ["--check", "--state-dir", "somewhere", "--config", path.to_str().expect("text")];
    assert_eq!(herd_mio(&words).status.code(), Some(0), "no server keeps a cache");
}

/// What `--check` prints where the server of NATS is on another host.
fn all_but_near(more: &str) -> String {
    let far = ENGINE.replace("127.0.0.1", "10.0.0.2");
    text(&check(format!("{far}{more}\n{}", three())).stdout)
}

#[test]
fn files_are_found_in_the_folder_of_the_configuration_and_by_the_servers_name() {
    let (folder, path) =
        file(format!("{ENGINE}nkey_file = \"keys/{{name}}.nk\"\n[state]\ndir = \"s\"\n{A}"));
    let config = Config::load(Some(&path), &Overrides::default(), false).expect("a configuration");
    let engine = config.engine_of(&config.servers[0]).expect("a member");
    assert_eq!(engine.login, EngineLogin::Nkey { file: folder.path().join("keys/A.nk") });
    assert_eq!(config.state_dir(), Some(folder.path().join("s")));
    assert_eq!(config.part(0), Some(Part::Member));
    let overrides = Overrides { state_dir: Some("other".into()), ..Overrides::default() };
    let config = Config::load(Some(&path), &overrides, false).expect("a configuration");
    let here = std::env::current_dir().expect("a folder").join("other");
    assert_eq!(
        config.state_dir(),
        Some(here),
        "the command line's begins at the working directory"
    );
}

#[test]
fn a_state_directory_of_the_command_line_is_enough_for_answers_that_wait_for_it() {
    let (_folder, path) = file(format!("[state]\nack = \"disk\"\n{A}"));
    let words = ["--check", "--state-dir", "somewhere", "--config", path.to_str().expect("text")];
    let output = herd_mio(&words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("/somewhere\"\nstate.ack = \"disk\"\n"));
}

#[test]
fn check_notes_what_is_wrong_with_the_files_and_who_else_can_read_a_secret() {
    let (folder, path) = file(format!("{ENGINE}token_file = \"token\"\n{A}"));
    let check = || text(&herd_mio(&["--check", "--config", path.to_str().expect("text")]).stdout);
    let missing = check();
    assert!(
        missing.contains("# note: the engine's files of A were not checked: cannot read"),
        "{missing}"
    );
    let token = folder.path().join("token");
    fs::write(&token, "sesame\n").expect("the file");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("its mode");
    let readable = check();
    assert!(
        readable.contains("# warning: other users can read the file with the engine's secret"),
        "{readable}"
    );
    assert!(!readable.contains("sesame"));
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("its mode");
    assert!(!check().contains("# warning: other users"));
}

#[test]
fn a_member_whose_secret_cannot_be_read_does_not_start() {
    let (folder, path) = file(format!("{ENGINE}token_file = \"token\"\n{}", server("A", 0, "")));
    let logs = folder.path().to_str().expect("text");
    let output = herd_mio(&["A", "--config", path.to_str().expect("text"), "--log-dir", logs]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("token (engine.token_file): No such file"), "{said}");
}

/// A value that is read and forgotten would leave the default in force, and no message.
#[test]
fn each_value_of_the_section_is_in_force_as_written() {
    let lines = [
        "bucket = \"flock\"",
        "replicas = 5",
        "create = false",
        "ack = \"local\"",
        "timeout = \"21s\"",
        "heartbeat = \"3s\"",
        "handshake_first = true",
    ];
    let (_folder, path) = file(format!("{ENGINE}{}\n{}", lines.join("\n"), three()));
    let path = path.to_str().expect("a path in UTF-8");
    let shown = text(&herd_mio(&["--check", "--config", path]).stdout);
    let usual = text(&check(format!("{ENGINE}{}", three())).stdout);
    for line in lines {
        let line = format!("\nengine.{line}\n");
        assert!(shown.contains(&line), "{line}{shown}");
        assert!(!usual.contains(&line), "this is the default: {line}");
    }
}
