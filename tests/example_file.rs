//! Claim: `herd.example.toml` names every setting that the parser knows, each at its default, and means the report's
//! herd as it stands.

use std::collections::BTreeSet;

use herd_mio::config::Config;
use herd_mio::places::Provider;

/// The file with the sign taken from its settings: `#key = value`, while words stand behind `# `.
fn uncommented() -> String {
    let is_word = |rest: &str| rest.is_empty() || rest.starts_with(' ');
    let line = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if !is_word(rest) => rest,
        _ => line,
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// `limits.line_bytes` and the like, of every server one list.
fn keys(table: &toml::Table) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (key, value) in table {
        let sections: Vec<&toml::Table> = match value {
            toml::Value::Table(section) => vec![section],
            toml::Value::Array(values) => values.iter().filter_map(toml::Value::as_table).collect(),
            _ => Vec::new(),
        };
        keys.insert(key.clone());
        let within = sections.iter().flat_map(|section| section.keys());
        keys.extend(within.map(|within| format!("{key}.{within}")));
    }
    keys
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
    assert_eq!(expected.places.provider(), Config::default().places.provider());
    assert_eq!(Config::parse(&uncommented()), Ok(expected));
}

/// Each setting has words above it that say its type or its values, and its default.
#[test]
fn each_setting_is_explained_with_its_default() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let is_setting = line.starts_with('#') && !line.starts_with("# ") && *line != "#";
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
            assert!(is_shown || is_derived, "{line}: {words:?}");
        }
    }
}

const EXAMPLE: &str = include_str!("../herd.example.toml");
