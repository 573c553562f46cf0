//! Claim: what `contrib/` and the documents say of metrics, alerts and options is what the program and the rules have.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

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

/// The words that begin with two dashes.
fn options(text: &str) -> BTreeSet<String> {
    let option = pattern(r"(?:^|[\s(])--([a-z][a-z-]*)");
    option
        .captures_iter(text)
        .map(|found| found[1].to_owned())
        .filter(|name| name != "name")
        .collect()
}

#[test]
fn the_manual_page_has_the_options_and_signals_of_the_help() {
    let page = read("contrib/man/herd-mio.1");
    let help = Command::new(env!("CARGO_BIN_EXE_herd-mio")).arg("--help").output();
    let help = String::from_utf8(help.expect("the program runs").stdout).expect("text");
    let flag = pattern(r"Fl -([a-z][a-z-]*)");
    let mut described: BTreeSet<_> =
        flag.captures_iter(&page).map(|found| found[1].to_owned()).collect();
    described.remove("name");
    assert_eq!(described, options(&help));
    for signal in pattern(r"SIG[A-Z0-9]+").find_iter(&help) {
        assert!(page.contains(&format!("Dv {}", signal.as_str())), "{}", signal.as_str());
    }
    assert!(page.contains("Ev HERD_PLACES_KEY"));
}
