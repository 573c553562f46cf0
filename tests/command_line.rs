//! Claim: an unusable command line or configuration is explained in a sentence, with the documented exit status;
//! `--check` draws the herd.

mod common;

use std::process::{Command, Output};

use common::program::{A, file, herd_mio};
use common::{ServerProcess, Setup};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Ends with 2 and says `part` on standard error, and nothing on standard output.
fn is_unusable(words: &[&str], part: &str) {
    let output = herd_mio(words);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
    assert!(said.contains(part), "{words:?}: {said:?} does not say {part:?}");
    assert_eq!(stdout(&output), "", "{words:?}");
}

#[test]
fn an_unusable_command_line_is_explained() {
    is_unusable(
        &[],
        "one of --server NAME, --herd, --check or --places-server IP:PORT is required",
    );
    is_unusable(&["--herd", "--check"], "--herd and --check exclude each other");
    is_unusable(&["--server", "Goloman", "--herd"], "--server and --herd exclude each other");
    is_unusable(&["--herds"], "unknown option --herds; did you mean --herd?");
    is_unusable(&["--heard", "--check"], "unknown option --heard; did you mean --herd?");
    is_unusable(&["-config"], "unknown option -config; did you mean --config?");
    is_unusable(
        &["--check", "--admin", "localhost:1"],
        "expected a port on 127.0.0.1, or an IP address",
    );
    is_unusable(
        &["--check", "--admin", "0.0.0.0:1"],
        "use a loopback address (127.0.0.1:1), or set tls = true in [admin], or allow_plaintext = [\"admin\"] in [security]",
    );
    is_unusable(&["Goloman", "--admin", "[::]:1"], "has neither TLS nor a password");
    is_unusable(&["--check", "--admin", "12137"], "where Goloman listens for clients");
    is_unusable(&["--frobnicate"], "unknown option --frobnicate (see --help)");
    is_unusable(&["--check", "left"], "unexpected argument \"left\" beside --check");
    let twice = "--dialect was given more than once";
    is_unusable(&["--check", "--dialect", "course", "--dialect", "report"], twice);
    is_unusable(&["--check", "--dialect=course", "--dialect=report"], twice);
    is_unusable(&["--check", "--check"], "--check was given more than once");
    is_unusable(
        &["--check", "--dialect", "latin"],
        "invalid value \"latin\" for --dialect: expected report or course",
    );
    is_unusable(&["--check", "--log-level=loud"], "off, error, warning, info, debug or trace");
    is_unusable(&["--check", "--places", "bing"], "google, google-new or offline");
    is_unusable(&["--check", "--places-url", "http://x/"], "https");
    is_unusable(&["--check", "--config"], "--config needs a value");
    is_unusable(&["--server", "--log-dir", "x"], "--server needs a value");
    is_unusable(
        &["--check", "--config", "/nowhere/herd.toml"],
        "cannot read /nowhere/herd.toml (--config): No such file",
    );
    for option in ["--config", "--log-dir", "--places-key", "--places-ca", "--dialect", "--server"]
    {
        let needed = format!("{option} needs a value");
        is_unusable(&[&format!("{option}="), "--check"], &needed);
        is_unusable(&["--check", option, ""], &needed);
    }
    is_unusable(&["--version=1"], "--version takes no value");
    is_unusable(&["--help=me"], "--help takes no value");
    is_unusable(
        &["--check", "--places-key", "sesame", "--places-key-file", "key"],
        "--places-key and --places-key-file exclude each other",
    );
}

#[test]
fn an_option_given_once_is_not_reported_as_given_twice() {
    let needed = "one of --server NAME, --herd, --check or --places-server IP:PORT is required";
    is_unusable(&["--config", "herd.toml"], needed);
    is_unusable(&["--log-level", "info", "--dialect=course"], needed);
    is_unusable(&["--check=yes"], "--check takes no value");
    is_unusable(&["--herd=", "--check"], "--herd takes no value");
    is_unusable(&["--config", "--check"], "--config needs a value");
}

#[test]
fn a_server_that_does_not_exist_is_reported_with_the_nearest_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("text");
    let servers = "(servers: Goloman, Hands, Holiday, Wilkes, Welsh)";
    for (name, meant) in [
        ("Golaman", "no server named \"Golaman\"; did you mean Goloman?"),
        ("goloman", "no server named \"goloman\"; did you mean Goloman?"),
        ("Hill", "no server named \"Hill\" (servers"),
        ("no name\u{7}", "no server named \"no name\\u{7}\" (servers"),
    ] {
        is_unusable(&["--server", name, "--log-dir", folder], meant);
        is_unusable(&["--server", name, "--log-dir", folder], servers);
    }
    let files = std::fs::read_dir(folder).expect("the folder").count();
    assert_eq!(files, 0, "a mistyped name leaves no log behind");
}

#[test]
fn a_name_alone_runs_that_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().to_str().expect("text");
    is_unusable(&["Golaman", "--log-dir", folder], "did you mean Goloman?");
    is_unusable(
        &["Hands", "--server", "Goloman"],
        "unexpected argument \"Hands\" beside --server Goloman",
    );
    is_unusable(&["Hands", "Goloman"], "unexpected argument \"Goloman\" beside Hands");
    is_unusable(&["Hands", "--herd"], "unexpected argument \"Hands\" beside --herd");

    let setup = Setup::alone().any_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.arg("--config").arg(setup.config_file("Goloman")).arg("Goloman");
    command.arg("--log-dir").arg(setup.folder.path()).env_remove("HERD_PLACES_KEY");
    let goloman = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    goloman.assert_serves();
}

#[test]
fn log_levels_are_accepted_in_any_case() {
    for level in ["INFO", "Warning", "oFF", "debug"] {
        let output = herd_mio(&["--check", "--log-level", level]);
        assert_eq!(output.status.code(), Some(0), "{level}: {}", stderr(&output));
    }
}

#[test]
fn an_invalid_key_is_never_shown() {
    let (_folder, path) = file("sesame open\n");
    let path = path.to_str().expect("text");
    for words in [
        &["--check", "--places-key", "sesame open"] as &[&str],
        &["--check", "--places-key=sesame open"],
        &["--check", "--places-keys=sesame"],
        &["--check", "--places-url", "https://example.org/x?key=sesame"],
        &["--check", "--places-url", "https://me:sesame@example.org/"],
        &["--check", "--places-key-file", path],
    ] {
        let output = herd_mio(words);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(!said.contains("sesame"), "{words:?}: {said}");
        assert!(said.contains("key") || said.contains("--places-url"), "{words:?}: {said}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.arg("--check").env("HERD_PLACES_KEY", "sesame open");
    let said = stderr(&command.output().expect("the program runs"));
    assert!(said.contains("HERD_PLACES_KEY is not a valid API key"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
}

/// A key given to the wrong option, or written into the configuration, is not shown to everybody.
#[test]
fn a_key_in_a_wrong_place_is_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let key = "AIzaSesame-open_1";
    let config = folder.path().join("herd.toml");
    let config = config.to_str().expect("text");
    let places = format!("{A}[places]\nprovider = \"{key}\"\nshape = \"{key}\"\n\"{key}\" = 1\n");
    std::fs::write(config, places).expect("a file");
    for words in [
        &["--check", "--places", key] as &[&str],
        &["--check", "--places-key-file", key],
        &["--check", "--places-ca", key],
        &["--check", "--config", key],
        &["--check", "--log-dir", key],
        &["--check", "--dialect", key],
        &["--check", "--log-level", key],
        &["--check", &format!("--places-key {key}")],
        &["--check", key],
        &["--places-server", key],
        &[key, "--log-dir", path],
        &["--check", "--config", config],
        &["A", "--config", config, "--log-dir", path],
    ] {
        let output = herd_mio(words);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains("AIza…") && !said.contains("Sesame"), "{words:?}: {said}");
    }
    let log = std::fs::read_to_string(folder.path().join("A_log.txt")).expect("a log");
    assert!(log.contains("AIza…") && !log.contains("Sesame"), "{log}");
    let files = std::fs::read_dir(path).expect("the folder").flatten();
    let named = files.filter(|file| file.file_name().to_string_lossy().contains("AIza"));
    assert_eq!(named.count(), 0, "nor is there a log of that name");

    let user = format!("{A}advertise = \"me:sesame@host:5\"\n");
    std::fs::write(config, user).expect("a file");
    let said = stderr(&herd_mio(&["--check", "--config", config]));
    assert!(
        said.contains("herd.toml:4:13: invalid `advertise`") && !said.contains("sesame"),
        "{said}"
    );
}

#[test]
fn a_key_on_the_command_line_brings_a_warning() {
    let output = herd_mio(&["--check", "--places-key", "sesame"]);
    assert_eq!(output.status.code(), Some(0));
    let said = stdout(&output) + &stderr(&output);
    assert!(said.contains("`ps` shows the value of --places-key"), "{said}");
    assert!(!said.contains("sesame"), "{said}");

    let setup = Setup::alone().any_port();
    let goloman = setup.start_with("Goloman", &["--places-key", "sesame"]);
    goloman.wait_for_log("WARNING: `ps` shows the value of --places-key");
    assert!(!goloman.log().contains("sesame") && !goloman.stderr().contains("sesame"));
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = herd_mio(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).lines().all(|line| line.len() <= 100), "{}", stdout(&help));
    for option in [
        "--server",
        "--herd",
        "--check",
        "--config",
        "--dialect",
        "--log-dir",
        "--log-level",
        "--places",
        "--places-url",
        "--places-ca",
        "--places-key-file",
        "--places-server",
        "--places-key",
        "--tls-dir",
        "--probe",
        "--probe-ca",
        "--completion",
        "Ports:",
        "Signals:",
        "Environment:",
        "Exit status:",
        "Examples:",
        "excludes --places-key;",
    ] {
        assert!(stdout(&help).contains(option), "{option}");
    }
    let manual = std::fs::read_to_string("contrib/man/herd-mio.1").expect("a manual");
    for signal in ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"] {
        assert!(stdout(&help).contains(signal) && manual.contains(signal), "{signal}");
    }
    let version = herd_mio(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    let form = concat!(
        r"\Aherd-mio ",
        env!("CARGO_PKG_VERSION"),
        r"( \([0-9a-f]{12,}\))?, protocol herd/1 between servers\n\z"
    );
    let form = regex::Regex::new(form).expect("a pattern");
    assert!(form.is_match(&stdout(&version)), "{:?}", stdout(&version));
}

#[test]
fn a_provider_without_a_key_is_refused_with_what_it_needs() {
    for provider in ["google", "google-new"] {
        is_unusable(
            &["--server", "Goloman", "--places", provider],
            &format!("{provider} needs an API key: use --places-key-file"),
        );
    }
}

#[test]
fn the_key_and_the_certificates_are_read_at_the_start_and_the_key_is_never_shown() {
    let (_folder, path) = file("sesame-open\n");
    let path = path.to_str().expect("text");
    let output = herd_mio(&["--check", "--places-key-file", path]);
    let summary = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for part in ["google-new", "an API key is given", "https://places.googleapis.com/v1/places"] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    assert!(summary.contains(&format!("chmod 600 {path}")), "{summary}");
    assert!(!summary.contains("sesame"), "{summary}");

    let (_folder, two_words) = file("sesame open\n");
    let two_words = two_words.to_str().expect("text");
    is_unusable(&["--check", "--places-key-file", two_words], "is not a valid API key");
    is_unusable(&["--check", "--places-key-file", "/nowhere/key"], "cannot read /nowhere/key");
    is_unusable(&["--check", "--places-ca", path], "there is no certificate in it");
    is_unusable(&["--check", "--places-ca", "/nowhere/ca"], "cannot read /nowhere/ca");
    is_unusable(&["--check", "--places-url", "https://a/b?c"], "an https:// URL without a query");
}
