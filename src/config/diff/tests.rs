use super::*;
use crate::places::key::ApiKey;

const SERVERS: &str = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:1\"\nneighbours = [\"B\"]\n\
    [[server]]\nname = \"B\"\nlisten = \"127.0.0.1:2\"\n";

/// With every setting of the section but for three of the four ways to log in.
const ENGINE: &str = "[engine]\nprovider = \"nats\"\nservers = [\"nats://a\"]\nmembers = [\"A\"]\nuser = \"u\"\n\
    password_file = \"p\"\nca = \"c\"\ncertificate = \"d\"\nkey = \"e\"\n[state]\ndir = \"s\"\n";

fn config(text: &str) -> Config {
    // A name may be that of another host.
    let plain = "security.allow_plaintext = [\"neighbours\"]\n";
    let plain = if text.contains("[security]") { "" } else { plain };
    Config::parse(&format!("{plain}{text}")).expect("a configuration")
}

fn changes(old: &str, new: &str, view: View<'_>) -> Vec<String> {
    let changes = diff(&config(old), &config(new), view);
    changes.iter().map(|change| change.to_string().replace("           ", "  ")).collect()
}

fn settings(text: &str) -> Vec<String> {
    let (old, new) = (SERVERS.to_owned(), format!("{text}\n{SERVERS}"));
    changes(&old, &new, View::Server("A"))
}

#[test]
fn a_change_is_named_with_both_values_and_with_when_it_takes_effect() {
    assert_eq!(settings(""), [""; 0]);
    assert_eq!(settings("link.heartbeat = \"2s\""), ["reload      link.heartbeat: 5s -> 2s"]);
    assert_eq!(settings("max_clients = 500000"), ["whole herd  max_clients: 1000000 -> 500000"]);
    assert_eq!(settings("loops = 2"), ["restart     loops: 1 -> 2"]);
    assert_eq!(
        settings("limits.line_pause = \"1s\"\nlog.levels.link = \"debug\""),
        ["reload      limits.line_pause: off -> 1s", "reload      log.levels.link: unset -> debug"]
    );
}

#[test]
fn every_setting_is_compared() {
    let full = include_str!("../../../herd.example.toml");
    let with_engine = format!("{ENGINE}{SERVERS}");
    let keys: Vec<String> =
        config(&with_engine).settings().into_iter().map(|(key, _)| key).collect();
    let tables = "limits link places log admin security reload server tls stop state engine tls.clients tls.neighbours";
    let only_if_set = "log.levels log.formats admin.positions server.name server.admin_listen tls.certificate \
                       tls.key tls.clients.ca tls.clients.crl tls.neighbours.ca tls.neighbours.crl admin.ca \
                       engine.token_file engine.nkey_file engine.creds_file";
    for key in Config::known_keys() {
        let is_left_out =
            [tables, only_if_set].iter().any(|all| all.split(' ').any(|it| it == key));
        let own = key.strip_prefix("server.").map(|own| format!("server.A.{own}"));
        assert!(is_left_out || keys.contains(own.as_ref().unwrap_or(&key)), "{key} in {keys:?}");
    }
    let example = config(full);
    assert!(keys.iter().any(|key| key == "engine.password_file"));
    assert_eq!(diff(&example, &example, View::Herd), []);
}

#[test]
fn what_is_kept_and_where_waits_for_a_restart() {
    let with_state = format!("[state]\ndir = \"s\"\n{SERVERS}");
    for (old, new, found) in [
        (SERVERS, &with_state, "restart     state.dir: unset -> s"),
        (
            &format!("[engine]\nprovider = \"nats\"\nservers = [\"nats://a\"]\n{SERVERS}"),
            &format!("[engine]\nprovider = \"nats\"\nservers = [\"tls://a\"]\n{SERVERS}"),
            "restart     engine.servers: [\"nats://a:4222\"] -> [\"tls://a:4222\"]",
        ),
    ] {
        assert_eq!(changes(old, new, View::Server("A")), [found]);
        let force = config(old).reloaded(&config(new), View::Server("A"));
        assert_eq!(force, config(old), "nothing of it is in force");
    }
}

#[test]
fn the_members_of_an_engine_stay_the_same_servers_when_others_come_and_go() {
    let first = "[[server]]\nname = \"First\"\nlisten = \"127.0.0.1:3\"\n";
    let of = |members: &str, servers: &str| {
        config(&format!(
            "[engine]\nprovider = \"nats\"\nservers = [\"nats://a\"]\n{members}\n{servers}"
        ))
    };
    let more = format!("{first}{SERVERS}");
    for (members, expected) in [("members = [\"B\"]", &[2][..]), ("", &[0, 1, 2])] {
        let force = of(members, SERVERS).reloaded(&of("", &more), View::Server("A"));
        assert_eq!(force.engine.map(|engine| engine.members).as_deref(), Some(expected));
    }
}

#[test]
fn a_cache_that_waits_for_its_restart_gets_no_neighbour_before() {
    let engine = "[engine]\nprovider = \"nats\"\nservers = [\"nats://a\"]\n";
    let alone = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:1\"\n";
    let cache = config(&format!("{engine}keep = \"cache\"\n{alone}"));
    let refusal = |old: &Config, new: &Config| {
        let force = old.reloaded(new, View::Server("A"));
        force.neighbour_of_cache("A")
    };
    let bridge = config(&format!("{engine}{SERVERS}"));
    let said = refusal(&cache, &bridge).expect("a refusal");
    assert!(said.starts_with("until it is restarted A is a member with engine.keep"), "{said}");
    assert!(said.contains("no neighbour: A has the neighbour B; restart it"), "{said}");
    assert_eq!(refusal(&bridge, &cache), None, "it holds all until it is restarted");
    assert_eq!(refusal(&cache, &config(&format!("{engine}{alone}"))), None);
}

#[test]
fn secrets_are_compared_and_not_shown() {
    let (mut old, mut new) = (config(SERVERS), config(SERVERS));
    old.places.key = ApiKey::parse(b"first-secret");
    new.places.key = ApiKey::parse(b"second-secret");
    let texts: Vec<String> =
        diff(&old, &new, View::Herd).into_iter().map(|change| change.text).collect();
    assert_eq!(texts, ["places key changed"]);
    assert_eq!(diff(&old, &old.clone(), View::Herd), []);
    assert!(!format!("{:?}", new.settings()).contains("second-secret"));
}

#[test]
fn a_server_sees_its_own_changes_and_those_of_its_neighbours() {
    let other = |a: &str, b: &str, more: &str| {
        format!(
            "[[server]]\nname = \"B\"\nlisten = \"127.0.0.1:2\"\n{b}\n\
             [[server]]\nname = \"A\"\nlisten = \"127.0.0.1:1\"\n{a}\n{more}"
        )
    };
    let linked = "neighbours = [\"B\"]";
    let view = |new: &str| changes(SERVERS, new, View::Server("A"));
    assert_eq!(view(&other(linked, "", "")), [""; 0], "their order means nothing");
    assert_eq!(view(&other("", "", "")), ["reload      neighbour B removed"]);
    let moved = view(&other(linked, "advertise = \"b.example:9\"", ""));
    assert_eq!(moved, ["reload      neighbour B: advertise: 127.0.0.1:10002 -> b.example:9"]);
    let south = "[[server]]\nname = \"South\"\nlisten = \"127.0.0.1:3\"\n";
    assert_eq!(view(&other(linked, "", south)), [""; 0], "it is no neighbour of A");
    let joined = format!("{south}neighbours = [\"A\"]\n");
    assert_eq!(view(&other(linked, "", &joined)), ["reload      neighbour South added"]);
    assert_eq!(
        changes(SERVERS, &other(linked, "", &joined), View::Herd),
        ["reload      server South added", "reload      link between A and South added"]
    );
    let gone = "[[server]]\nname = \"B\"\nlisten = \"127.0.0.1:2\"\n";
    assert_eq!(view(gone), ["restart     server A removed"]);
    assert_eq!(
        changes(SERVERS, gone, View::Herd),
        ["reload      server A removed", "reload      link between A and B removed"]
    );
}

#[test]
fn a_listener_moves_at_a_reload_unless_an_old_one_is_in_its_way() {
    let alone = |listen: &str, peers: &str| {
        format!("[[server]]\nname = \"A\"\nlisten = \"{listen}\"\npeer_listen = \"{peers}\"\n")
    };
    let old = alone("0.0.0.0:1", "127.0.0.1:2");
    for (listen, peers, moves) in [
        ("0.0.0.0:3", "127.0.0.1:2", true),
        ("127.0.0.1:1", "127.0.0.1:2", false),
        ("0.0.0.0:1", "127.0.0.2:2", true),
        ("127.0.0.1:2", "127.0.0.1:1", false),
        ("0.0.0.0:0", "127.0.0.1:2", true),
    ] {
        let new = alone(listen, peers);
        let found = diff(&config(&old), &config(&new), View::Server("A"));
        let effect = if moves { Effect::Reload } else { Effect::Restart };
        assert!(found.iter().filter(|it| it.text.contains("listen")).all(|it| it.effect == effect));
        assert!(!found.is_empty());
        let force = config(&old).reloaded(&config(&new), View::Server("A"));
        let is_new = force.servers[0].listen == config(&new).servers[0].listen;
        assert!(is_new == moves || listen == "0.0.0.0:1", "{listen}");
    }
}

#[test]
fn what_needs_a_restart_stays_in_force() {
    let old = config(SERVERS);
    let new = config(&format!(
        "dialect = \"course\"\nmax_clients = 5\nmax_future = \"1s\"\nloops = 2\n\
         [link]\nrefill = false\nheartbeat = \"1s\"\n{SERVERS}"
    ));
    let force = old.reloaded(&new, View::Server("A"));
    assert_eq!(force.link.heartbeat.as_secs(), 1);
    let left = diff(&force, &new, View::Server("A"));
    assert_eq!(left.len(), 5);
    assert!(left.iter().all(|change| change.effect != Effect::Reload), "{left:?}");
}
