//! Claim: `herd.example.toml` names every setting that the parser knows, each at its default, and means the report's
//! herd as it stands.

use std::collections::BTreeSet;
use std::path::PathBuf;

use herd_mio::config::{Config, EngineConfig, EngineLogin, EngineUrl, OwnFiles};
use herd_mio::places::Provider;

/// The file with the sign taken from its settings: `#key = value`, while words stand behind `# `.
fn uncommented() -> String {
    let is_word = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    let line = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if !is_word(rest) => rest,
        _ => line,
    };
    let text = EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n");
    // `ca` of [admin] needs it.
    text.replace("\ntls = false", "\ntls = true")
}

/// The same with one of the four ways to log in.
fn with_one_login() -> String {
    let is_other = |line: &&str| {
        ["token_file", "nkey_file", "creds_file"].iter().any(|key| line.starts_with(key))
    };
    let text = uncommented();
    text.lines().filter(|line| !is_other(line)).collect::<Vec<_>>().join("\n")
}

/// `limits.line_bytes` and the like, of every server one list.
fn keys(table: &toml::Table) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (key, value) in table {
        let sections: Vec<&toml::Table> = match value {
            toml::Value::Table(section) => vec![section],
            toml::Value::Array(values) => values.iter().filter_map(toml::Value::as_table).collect(),
            _ => Vec::new(),
        };
        all.insert(key.clone());
        let within = sections.into_iter().flat_map(keys);
        all.extend(within.map(|within| format!("{key}.{within}")));
    }
    all
}

#[test]
fn the_example_names_every_key_of_the_parser_and_no_other() {
    let table: toml::Table = uncommented().parse().expect("TOML");
    let known: BTreeSet<String> = Config::known_keys().into_iter().collect();
    assert_eq!(keys(&table), known);
    assert!(known.contains("max_future") && known.contains("server.advertise"), "{known:?}");
}

#[test]
fn the_example_is_the_default_with_and_without_its_comments() {
    assert_eq!(Config::parse(EXAMPLE), Ok(Config::default()));
    let mut expected = Config::default();
    // It depends on whether there is a key; this is the one without.
    expected.places.provider_override = Some(Provider::Offline);
    // It depends on the address; this is the one on loopback.
    expected.admin.positions = Some(true);
    // By default no file is named.
    let file = |name: &str| Some(PathBuf::from(format!("tls/{name}")));
    expected.tls.own = file("{name}.pem")
        .zip(file("{name}.key"))
        .map(|(certificate, key)| OwnFiles { certificate, key });
    (expected.tls.clients.ca, expected.tls.clients.crl) =
        (file("clients-ca.pem"), file("clients.crl"));
    (expected.tls.neighbours.ca, expected.tls.neighbours.crl) =
        (file("herd-ca.pem"), file("herd.crl"));
    (expected.admin.tls, expected.admin.ca) = (true, file("operators-ca.pem"));
    assert_eq!(expected.places.provider(), Config::default().places.provider());
    expected.state.dir = Some("state".into());
    expected.engine = Some(EngineConfig {
        servers: vec![EngineUrl { host: "127.0.0.1".into(), port: 4_222, needs_tls: false }],
        members: vec![0, 1, 2, 3, 4],
        has_all: false,
        login: EngineLogin::Password { user: "herd".into(), file: "nats/password".into() },
        ca: Some("nats/ca.pem".into()),
        certificate: Some(("nats/{name}.pem".into(), "nats/{name}.key".into())),
        ..EngineConfig::default()
    });
    assert_eq!(Config::parse(&with_one_login()), Ok(expected));
}

/// Each setting has words above it that say its type or its values, and its default.
#[test]
fn each_setting_is_explained_with_its_default() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let is_setting = line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ");
        if is_setting {
            let words: Vec<&str> = lines[..at]
                .iter()
                .rev()
                .take_while(|line| line.starts_with("# "))
                .copied()
                .collect();
            let words = words.into_iter().rev().collect::<Vec<_>>().join(" ").replace(" # ", " ");
            assert!(words.contains("Default: "), "{line}: {words:?}");
            let value = line.split_once(" = ").expect("a setting").1;
            let is_shown = words.contains(&format!("Default: {value}"));
            // One depends on other settings, or its number stands there with a unit.
            let is_derived =
                ["\"offline\"", "22138", "MiB"].iter().any(|part| value.contains(part));
            // What they show is an example.
            let examples = ["tls/", "nats", "\"state\"", "\"herd\""];
            let is_example = examples.iter().any(|part| value.contains(part));
            let is_unset = words.contains("Default: not set") && is_example;
            let is_all = words.contains("Default: all servers.") && line.starts_with("#members");
            assert!(is_shown || is_derived || is_unset || is_all, "{line}: {words:?}");
        }
    }
}

const EXAMPLE: &str = include_str!("../herd.example.toml");
