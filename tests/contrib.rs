//! Claim: what `contrib/` and the documents say of metrics, alerts and options is what the program and the rules have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use herd_mio::cli::options::OPTIONS;
use herd_mio::config::Config;
use regex::Regex;
use serde_json::Value;

fn read(path: &str) -> String {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

/// The names in the table of `docs/operations.md`, and of each histogram the names of its samples.
fn documented() -> BTreeSet<String> {
    let row = pattern(r"(?m)^\| `((?:herd|process)_\w+)` \| (\w+) \|");
    let mut names = BTreeSet::new();
    for found in row.captures_iter(&read("docs/operations.md")) {
        match &found[2] {
            "histogram" => {
                let parts = ["bucket", "sum", "count"];
                names.extend(parts.map(|part| format!("{}_{part}", &found[1])));
            }
            _ => drop(names.insert(found[1].to_owned())),
        }
    }
    assert!(names.len() > 50, "{names:?}");
    names
}

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let name = pattern(r"\b(?:herd|process)_[a-z_]+");
    // The certificates of the herd are values of a label.
    let is_name = |name: &str| !matches!(name, "herd_ca" | "herd_crl");
    let found = name.find_iter(text).map(|found| found.as_str());
    found.filter(|name| is_name(name)).map(str::to_owned).collect()
}

fn alerts() -> Vec<String> {
    let alert = pattern(r"(?m)^ *- alert: (\w+)$");
    alert
        .captures_iter(&read("contrib/prometheus/alerts.yml"))
        .map(|one| one[1].to_owned())
        .collect()
}

#[test]
fn alerts_and_their_tests_name_metrics_that_exist() {
    let documented = documented();
    for file in ["contrib/prometheus/alerts.yml", "contrib/prometheus/alerts.test.yml"] {
        let named = named(&read(file));
        assert!(named.len() >= 10, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn each_alert_has_a_test_and_a_row_that_says_what_to_do() {
    let (tests, documents) =
        (read("contrib/prometheus/alerts.test.yml"), read("docs/operations.md"));
    let alerts = alerts();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        let tested = format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels");
        assert!(tests.contains(&tested), "no test lets {alert} fire");
        assert!(documents.contains(&format!("| {alert} | ")), "no row for {alert}");
    }
}

#[test]
fn each_query_of_the_dashboard_names_metrics_that_exist() {
    let dashboard: Value =
        serde_json::from_str(&read("contrib/prometheus/dashboard.json")).expect("valid JSON");
    let documented = documented();
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().expect("a list") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query");
            let named = named(query);
            let unknown: Vec<_> = named.difference(&documented).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", panel["title"]);
            assert!(!named.is_empty() || query.contains("up{"), "{query}");
            queries += 1;
        }
    }
    assert!(queries > 30, "{queries} queries");
}

/// Who is woken by an alert looks there first.
#[test]
fn the_dashboard_shows_each_metric_that_an_alert_watches() {
    let shown = named(&read("contrib/prometheus/dashboard.json"));
    let alerts = read("contrib/prometheus/alerts.yml");
    let watched =
        alerts.lines().filter(|line| line.trim_start().starts_with("expr:")).flat_map(named);
    // A restart that is due is no figure over time.
    let missing: BTreeSet<String> = watched
        .filter(|name| !shown.contains(name) && name != "herd_config_restart_required")
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// An entry of a manual page: what stands in its first line, and its text as a reader sees it.
struct Entry {
    section: String,
    head: String,
    text: String,
}

/// The entries of a page that is written in mdoc.
fn entries(page: &str) -> Vec<Entry> {
    let (mut entries, mut section): (Vec<Entry>, _) = (Vec::new(), String::new());
    let mut is_entry = false;
    let request = pattern(r"^\.(?:[A-Z][a-z] )*");
    for line in page.lines() {
        is_entry = line.starts_with(".It ") || is_entry && line != ".El";
        if let Some(title) = line.strip_prefix(".Ss ").or(line.strip_prefix(".Sh ")) {
            section = title.to_owned();
        } else if let Some(head) = line.strip_prefix(".It ") {
            let head = head.to_owned();
            entries.push(Entry { section: section.clone(), head, text: String::new() });
        } else if let Some(entry) = entries.last_mut().filter(|_| is_entry) {
            entry.text += &request.replace(line, "").replace(r"\-", "-").replace(" ,", ",");
            entry.text += " ";
        }
    }
    entries
}

#[test]
fn the_manual_page_has_each_option_with_its_value_and_its_words() {
    let page = entries(&read("contrib/man/herd-mio.1"));
    let described: BTreeSet<&str> = page
        .iter()
        .flat_map(|entry| entry.head.split(" , "))
        .filter_map(|head| head.strip_prefix("Fl ")?.split(' ').next())
        .collect();
    let options: BTreeSet<&str> = OPTIONS.iter().map(|option| &option.name[1..]).collect();
    assert_eq!(described, options);
    for option in OPTIONS {
        let value =
            option.value.shown().map(|shown| shown.replace('|', " | ").replace(':', " : Ns Ar "));
        let head = match value {
            Some(value) => format!("Fl {} Ar {value}", &option.name[1..]),
            None => format!("Fl {}", &option.name[1..]),
        };
        let is_its = |entry: &&Entry| entry.head.split(" , ").any(|one| one == head);
        let entry = page.iter().find(is_its).unwrap_or_else(|| panic!("no entry {head}"));
        for word in option.value.words() {
            let text = format!("{} {}", entry.head, entry.text);
            let is_word = |found: &str| found.trim_matches([',', ';', '.']) == *word;
            assert!(text.split(' ').any(is_word), "{head} does not name {word}: {text}");
        }
    }
}

#[test]
fn the_manual_page_has_the_signals_variables_and_statuses_of_the_help() {
    let page = read("contrib/man/herd-mio.1");
    let help = Command::new(env!("CARGO_BIN_EXE_herd-mio")).arg("--help").output();
    let help = String::from_utf8(help.expect("the program runs").stdout).expect("text");
    for signal in pattern(r"SIG[A-Z0-9]+").find_iter(&help) {
        assert!(page.contains(&format!("Dv {}", signal.as_str())), "{}", signal.as_str());
    }
    for variable in pattern(r"(?m)^  ([A-Z]+_[A-Z_]+)  ").captures_iter(&help) {
        assert!(page.contains(&format!(".It Ev {}", &variable[1])), "{}", &variable[1]);
    }
    for status in pattern(r"(?m)^  ([0-9])  ").captures_iter(&help) {
        assert!(page.contains(&format!("\n.It {}\n", &status[1])), "status {}", &status[1]);
    }
}

/// What `herd.example.toml` says of the defaults, by key.
fn defaults() -> BTreeMap<String, String> {
    let (mut defaults, mut section, mut words) = (BTreeMap::new(), String::new(), String::new());
    let header = pattern(r"^#?\[+([a-z.]+)\]+$");
    let setting = pattern(r"^#?([a-z_]+) = ");
    for line in read("herd.example.toml").lines() {
        if let Some(found) = header.captures(line) {
            section = format!("{}.", &found[1]);
        } else if let Some(found) = setting.captures(line) {
            let key = format!("{section}{}", &found[1]);
            defaults.entry(key).or_insert_with(|| default_of(&words.replace('`', "")));
        } else if let Some(more) = line.strip_prefix("# ") {
            words += &format!("{more} ");
            continue;
        }
        words.clear();
    }
    defaults
}

/// The last sentence of an explanation; empty for a setting that is required.
fn default_of(explanation: &str) -> String {
    let at = explanation.find("Default: ").unwrap_or(explanation.len());
    explanation[at..].trim_end().to_owned()
}

#[test]
fn the_manual_page_of_the_configuration_has_each_key_and_its_default() {
    let page = entries(&read("contrib/man/herd-mio.toml.5"));
    let described: BTreeMap<String, String> = page
        .iter()
        .filter_map(|entry| {
            let key = entry.head.strip_prefix("Ic ")?;
            let section = entry.section.trim_matches(['[', ']']);
            let is_first = section == "Before all sections";
            let key = if is_first { key.to_owned() } else { format!("{section}.{key}") };
            Some((key, default_of(&entry.text)))
        })
        .collect();
    let sections: BTreeSet<&str> =
        described.keys().filter_map(|key| Some(key.rsplit_once('.')?.0)).collect();
    let known = Config::known_keys();
    let known = known.iter().filter(|key| !sections.contains(key.as_str()));
    assert_eq!(described.keys().collect::<BTreeSet<_>>(), known.collect());
    let defaults = defaults();
    for (key, default) in &described {
        assert_eq!(Some(default), defaults.get(key), "{key}");
        assert!(
            !default.is_empty() || ["server.name", "server.listen"].contains(&key.as_str()),
            "{key}"
        );
    }
}
