//! Claim: a mistake in a configuration is reported with its file, line and column, in an operator's words; and a
//! configuration that cannot run is refused.

mod common;

use std::fmt::Write;

use common::program::{A, PLAIN, check, file, herd_mio, server, text};
use herd_mio::config::{Config, ConfigError};

/// The mistakes that `--check` names, each as `LINE:COLUMN: what`.
fn mistakes(contents: impl AsRef<[u8]>) -> Vec<String> {
    let (_folder, path) = file(contents);
    let path = path.to_str().expect("text");
    let output = herd_mio(&["--check", "--config", path]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(text(&output.stdout), "");
    assert_plain(&said);
    let said = said.strip_prefix("herd-mio: ").unwrap_or_else(|| panic!("{said:?}"));
    let place = format!("{path}:");
    let line =
        |line: &str| line.strip_prefix(&place).unwrap_or_else(|| panic!("{line}")).to_owned();
    said.lines().map(line).collect()
}

/// No word of the compiler or its libraries.
fn assert_plain(said: &str) {
    let words = regex::Regex::new(
        r"\b([ui](8|16|32|64|128|size)|struct|enum|variant|invalid type|bool|missing field|os error|None|Some|Err|Utf8Error)\b",
    );
    let words = words.expect("a pattern");
    assert!(!words.is_match(said), "{said}");
}

/// One mistake each, with all that is said of it.
fn wrong() -> Vec<(String, &'static str)> {
    let address = "expected an IP address and a port, such as \"127.0.0.1:12138\"";
    let mut wrong = vec![
        (format!("dialekt = \"report\"\n{A}"), "1:1: unknown key `dialekt`; did you mean dialect?"),
        (
            format!("dialect = \"latin\"\n{A}"),
            "1:11: invalid `dialect`: \"latin\"; expected \"report\" or \"course\"",
        ),
        (
            format!("max_clients = 0\n{A}"),
            "1:15: invalid `max_clients`: 0; expected a whole number from 1 to 1000000000",
        ),
        (
            format!("loops = -1\n{A}"),
            "1:9: invalid `loops`: -1; expected a whole number from 1 to 64",
        ),
        (
            format!("{A}admin_listen = \"0.0.0.0:32138\"\n"),
            "4:16: `admin_listen` of A (0.0.0.0:32138) can be reached from other hosts, and the admin listener has neither TLS nor a password; use a loopback address (127.0.0.1:32138), or set tls = true in [admin], or allow_plaintext = [\"admin\"] in [security]",
        ),
        (
            format!("{A}admin_listen = \"localhost:32138\"\n"),
            "4:16: invalid `admin_listen` of server A: \"localhost:32138\"; expected \"off\", or an IP address and a port, such as \"127.0.0.1:32138\"",
        ),
        (
            format!("{A}[admin]\nhosts = [\"herd.example:80\"]\n"),
            "5:10: invalid `admin.hosts`: \"herd.example:80\"; expected host names without a port, such as [\"herd.example\"]",
        ),
        (
            format!("{A}[security]\nallow_plaintext = \"neighbours\"\n"),
            "5:19: invalid `security.allow_plaintext`: \"neighbours\"; expected a list, such as [\"neighbours\"]",
        ),
        (
            format!("{A}[log]\noutputs = \"file\"\n"),
            "5:11: invalid `log.outputs`: \"file\"; expected a list, such as [\"file\"]",
        ),
        (
            format!("{A}[admin]\nhosts = \"herd.example\"\n"),
            "5:9: invalid `admin.hosts`: \"herd.example\"; expected a list, such as [\"herd.example\"]",
        ),
        (
            format!("{A}[security]\nallow_plaintext = [\"clients\"]\n"),
            "5:20: invalid `security.allow_plaintext`: \"clients\"; expected a list of \"neighbours\" and \"admin\"",
        ),
        (
            format!("{A}[limits]\nline_byte = 5\n"),
            "5:1: unknown key `line_byte` of limits; did you mean line_bytes?",
        ),
        (
            format!("{A}[limits]\nline_bytes = 32769\n"),
            "5:14: invalid `limits.line_bytes`: 32769; expected a number of bytes from 1 to 32768, such as 4096 or \"4KiB\"",
        ),
        (
            format!("{A}[limits]\nline_bytes = -1\n"),
            "5:14: invalid `limits.line_bytes`: -1; expected a number of bytes from 1 to 32768, such as 4096 or \"4KiB\"",
        ),
        (
            format!("{A}limits.client_connections = \"many\"\n"),
            "4:1: unknown key `limits` of server A; it belongs in a section of its own, [limits]",
        ),
        (
            format!("limits.client_connections = \"many\"\n{A}"),
            "1:29: invalid `limits.client_connections`: \"many\"; expected a whole number from 1 to 10000000",
        ),
        (
            format!("{A}[limits]\nexempt = [\"10.0.0.1/8\"]\n"),
            "5:11: invalid `limits.exempt`: \"10.0.0.1/8\"; expected \"10.0.0.0/8\", because the bits behind the length must be 0",
        ),
        (
            format!("{A}[limits]\nexempt = [\"::1\", \"10.0.0.0/33\"]\n"),
            "5:18: invalid `limits.exempt`: \"10.0.0.0/33\"; expected an IP address, or a prefix such as \"10.0.0.0/8\"",
        ),
        (
            format!("{A}[limits]\nexempt = [\"::ffff:10.0.0.0/104\"]\n"),
            "5:11: invalid `limits.exempt`: \"::ffff:10.0.0.0/104\"; expected \"10.0.0.0/8\", its form in IPv4",
        ),
        (
            format!("{A}[limits]\nexempt = true\n"),
            "5:10: invalid `limits.exempt`: true; expected a list, such as [\"127.0.0.0/8\", \"::1/128\"]",
        ),
        (
            format!("{A}[limits]\nnew_ids_burst = 0\n"),
            "5:17: invalid `limits.new_ids_burst`: 0; expected a whole number from 1 to 1000000000",
        ),
        (
            format!("{A}[limits]\nheartbeat = \"1s\"\n"),
            "5:1: unknown key `heartbeat` of limits; it belongs in [link]",
        ),
        (
            format!("{A}max_clients = 5\n"),
            "4:1: unknown key `max_clients` of server A; it belongs before all sections",
        ),
        (
            format!("{A}[link]\nrefill = \"no\"\n"),
            "5:10: invalid `link.refill`: \"no\"; expected true or false",
        ),
        (
            format!("{A}[places]\nkey = \"sesame\"\n"),
            "5:1: unknown key `key` of places; give an API key by --places-key-file or the variable HERD_PLACES_KEY",
        ),
        (format!("limits = 5\n{A}"), "1:10: invalid `limits`: 5; expected a section, [limits]"),
        (
            "server = 5\n".to_owned(),
            "1:10: invalid `server`: 5; expected sections that begin with [[server]]",
        ),
        (server("A", 1200, "neighbours = [\"A\"]"), "4:15: server A lists itself as a neighbour"),
        (
            server("Goloman", 1200, "neighbours = [\"Golaman\", \"Hands\"]")
                + &server("Hands", 1201, ""),
            "4:15: no server named \"Golaman\", listed as a neighbour of Goloman; did you mean Goloman? (servers: Goloman, Hands)",
        ),
        (
            server("A", 1200, "neighbours = \"B\""),
            "4:14: invalid `neighbours` of server A: \"B\"; expected a list, such as [\"Hands\"]",
        ),
        (
            format!("{A}{}", server("A", 1201, "")),
            "5:8: duplicate server name \"A\" (first at line 2)",
        ),
        (
            format!("{A}{}", server("a", 1201, "")),
            "5:8: the server names \"A\" (line 2) and \"a\" differ only in case, and so would their log files; choose another name",
        ),
        (
            format!("{A}{}", server("B", 1200, "")),
            "6:10: A and B would both listen on 127.0.0.1:1200 (A at line 2); choose another port",
        ),
        (
            format!("{A}{}", server("B", 11200, "")),
            "6:10: A and B would both listen on 127.0.0.1:11200 (A at line 2); choose another port",
        ),
        (
            format!("{A}admin_listen = \"127.0.0.1:1200\"\n"),
            "4:16: server A would listen twice on 127.0.0.1:1200; use different ports for clients, neighbours and administration",
        ),
        (
            format!("{A}peer_listen = \"127.0.0.1:1200\"\n"),
            "4:15: server A would listen twice on 127.0.0.1:1200; use different ports for clients and neighbours",
        ),
        (
            format!("{A}peer_listen = \"0.0.0.0:1200\"\n"),
            "4:15: server A would listen twice on 127.0.0.1:1200; use different ports for clients and neighbours",
        ),
        (
            server("A", 60000, ""),
            "3:10: the default port for neighbours, 60000 + 10000, is above 65535; set `peer_listen`",
        ),
        (
            server("A B", 1200, ""),
            "2:8: invalid `name` of this server: \"A B\"; expected 1 to 64 letters, digits, '_' and '-'",
        ),
        (
            server("--check", 1200, ""),
            "2:8: invalid `name` of server --check: \"--check\"; expected a name that does not begin with a dash, as options do",
        ),
        (
            "[[server]]\nlisten = \"127.0.0.1:1200\"\n".to_owned(),
            "1:1: `name` of this server is missing; expected text, such as name = \"Goloman\"",
        ),
        (
            "[[server]]\nname = 5\nlisten = \"127.0.0.1:1200\"\n".to_owned(),
            "2:8: invalid `server.name`: 5; expected text in quotation marks",
        ),
        (
            format!("{A}[places]\nurl = \"https://a/\"\n"),
            "5:1: unknown key `url` of places; it belongs on the command line, as --places-url",
        ),
        ("server = []\n".to_owned(), "1:1: the file has no [[server]]; at least one is required"),
        (String::new(), "1:1: the file has no [[server]]; at least one is required"),
        ("this is no TOML".to_owned(), "1:6: "),
        ("ü = 1\n = 2".to_owned(), "1:1: "),
    ];
    for key in ["API-KEY", "google_key", "HERD_PLACES_KEY", "key_file"] {
        let said = format!("5:1: unknown key `{key}` of places; give an API key by --places-key");
        wrong.push((format!("{A}[places]\n{key} = \"sesame\"\n"), said.leak()));
    }
    for (value, column) in [("forever", 14), ("5", 14), ("0s", 14), ("1ns", 14), ("-1s", 14)] {
        assert_eq!(column, 14);
        wrong.push((format!("max_future = \"{value}\"\n{A}"), "1:14: invalid `max_future`: "));
    }
    let listen = format!("3:10: invalid `listen` of server A: \"localhost:4001\"; {address}");
    let missing = format!("1:1: `listen` of server A is missing; {address}");
    wrong.push((
        "[[server]]\nname = \"A\"\nlisten = \"localhost:4001\"\n".to_owned(),
        listen.leak(),
    ));
    wrong.push(("[[server]]\nname = \"A\"\n".to_owned(), missing.leak()));
    wrong
}

#[test]
fn each_mistake_is_reported_with_file_line_and_column() {
    for (contents, expected) in wrong() {
        let said = mistakes(&contents);
        let first = &said[0];
        assert!(first.starts_with(expected), "{contents}\n{said:#?}\nexpected {expected}");
    }
    assert_eq!(mistakes(b"# \xc3\xbc\na = \"\xff\"\n"), ["2:6: the file is not valid UTF-8"]);
}

#[test]
fn invalid_toml_is_reported_without_the_parsers_terms() {
    for (contents, expected) in [
        (
            format!("max_clients = 1\nmax_clients = 2\n{A}"),
            "2:1: `max_clients` is defined twice; define it once, with all of its keys",
        ),
        (
            format!("{A}[server]\n"),
            "4:2: `server` is defined twice; define it once, with all of its keys, or write \
             [[server]] for each server",
        ),
        (
            "max_future = 5m\n".to_owned(),
            "1:14: expected a value: text in quotation marks, a number without a unit, or true or false",
        ),
        ("name = \"A\n".to_owned(), "1:10: the closing quotation mark is missing"),
        ("name = 'A\n".to_owned(), "1:10: the closing quotation mark is missing"),
        ("name = \"\"\"A\n".to_owned(), "2:1: the closing quotation marks are missing"),
        ("a = \"\0\"\n".to_owned(), "1:6: write a control character as"),
        ("[[server]\n".to_owned(), "1:10: the closing bracket is missing"),
        ("max_clients\n".to_owned(), "1:12: expected `=` and a value after the key"),
        ("= 1\n".to_owned(), "1:1: expected a key"),
        ("{}\n".to_owned(), "1:1: expected a key"),
        ("a = [1\n2]\n".to_owned(), "2:1: a comma or the list's closing bracket is missing"),
        ("a = 1\ra = 2\r".to_owned(), "1:7: a line must end with LF or CR LF"),
        ("a = 1\na.b = 1\n".to_owned(), "2:1: this key already has a value"),
        (format!("a = {}\n", "[".repeat(1_000)), "1:85: the brackets are nested too deeply"),
        (format!("a{} = 1\n", ".a".repeat(1_000)), "1:1: the key has too many dots"),
    ] {
        let said = mistakes(&contents);
        assert!(said[0].starts_with(expected), "{contents}\n{said:#?}\nexpected {expected}");
        assert_eq!(said.len(), 1, "{contents}\n{said:#?}");
    }
}

/// Each old name of a key, in its own section and in another one.
#[test]
fn an_old_key_is_refused_with_its_new_name() {
    for (section, old, new) in [
        ("", "ahead", "max_future"),
        ("server", "peers", "peer_listen"),
        ("limits", "begun_line", "line_timeout"),
        ("limits", "connections", "client_connections"),
        ("limits", "unsent_bytes", "output_bytes"),
        ("limits", "stalled", "write_timeout"),
        ("places", "in_flight", "max_in_flight"),
        ("places", "waiting", "max_queued"),
        ("places", "answer_bytes", "response_bytes"),
    ] {
        let (contents, expected) = match section {
            "" => {
                (format!("{old} = 5\n{A}"), format!("1:1: unknown key `{old}`: it is now `{new}`"))
            }
            "server" => (
                format!("{A}{old} = \"127.0.0.1:5\"\n"),
                format!("4:1: unknown key `{old}` of server A: it is now `{new}`"),
            ),
            section => (
                format!("{A}[{section}]\n{old} = 5\n"),
                format!("5:1: unknown key `{old}` of {section}: it is now `{new}`"),
            ),
        };
        assert_eq!(mistakes(contents), [expected]);
        let expected = format!("5:1: unknown key `{old}` of link: it is now `{new}`, and belongs ");
        let said = mistakes(format!("{A}[link]\n{old} = 5\n"));
        assert!(said[0].starts_with(&expected), "{said:?}");
    }
}

#[test]
fn times_and_sizes_may_have_units() {
    let limits = |text: &str| Config::parse(&format!("{text}\n{A}")).expect(text).limits;
    assert_eq!(limits("limits.line_timeout = \"1m30s\"").line_timeout.as_secs(), 90);
    assert_eq!(
        limits("limits.line_pause = \"0.5 s\"").line_pause.map(|it| it.as_millis()),
        Some(500)
    );
    assert_eq!(limits("limits.buffer_bytes = \"64MiB\"").buffer_bytes, 64 << 20);
    assert_eq!(limits("limits.line_bytes = \"1 KB\"").line_bytes, 1_000);
    for (contents, expected) in [
        (
            "max_future = \"1mo\"\n",
            "1:14: invalid `max_future`: \"1mo\"; expected a time, such as \"500ms\", \"60s\", \"1m30s\" or \"1h\"; a \
             day, week, month or year has no fixed length: write hours, as in \"24h\"",
        ),
        (
            "limits.line_pause = \"2 days\"\n",
            "1:21: invalid `limits.line_pause`: \"2 days\"; expected \"off\", or a time such as \"500ms\"; a day, week",
        ),
        (
            "limits.output_bytes = \"2TiB\"\n",
            "1:23: invalid `limits.output_bytes`: \"2TiB\"; expected a number of bytes from 1 to 1099511627776, such as \
             4096 or \"4KiB\"",
        ),
        ("limits.output_bytes = \"0.1B\"\n", "1:23: invalid `limits.output_bytes`"),
        ("limits.line_bytes = \"many\"\n", "1:21: invalid `limits.line_bytes`: \"many\""),
    ] {
        let said = mistakes(format!("{contents}{A}"));
        assert!(said[0].starts_with(expected), "{said:?}");
    }
}

/// To count lines up to each of half a million mistakes took minutes.
#[test]
fn only_reported_mistakes_are_located() {
    let keys: String = (0..1_000).map(|number| format!("k{number} = 1\n")).collect();
    match Config::parse(&keys) {
        Err(ConfigError::File { faults, more, .. }) => {
            assert_eq!((faults.len(), more), (20, 980));
            assert!(faults.iter().all(|fault| fault.text.contains("; known keys: dialect, ")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_once_and_in_order() {
    let contents = format!("loops = 0\n[limits]\nline_bytes = true\nfoo = 1\n{A}port = 5\n");
    let said = mistakes(contents);
    let places: Vec<&str> =
        said.iter().map(|line| line.split(": ").next().expect("a place")).collect();
    assert_eq!(places, ["1:9", "3:14", "4:1", "8:1"], "{said:#?}");

    let many: String = (0..1_000).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "wrong{number} = 1");
        text
    });
    let (_folder, path) = file(many + A);
    let said = text(&herd_mio(&["--check", "--config", path.to_str().expect("text")]).stderr);
    assert!(said.ends_with(": and 980 more mistakes\n"), "{said}");
    assert_eq!(said.lines().count(), 21);
}

/// Every key with every type of value: either it is accepted, or a message in plain words names its place.
#[test]
fn no_value_of_any_type_is_reported_in_the_compilers_terms() {
    let keys = [
        ("", "dialect max_clients max_future loops server limits link places"),
        (
            "[limits]",
            "line_bytes line_timeout line_pause client_connections output_bytes write_timeout \
             buffer_bytes client_connections_per_address new_ids_per_second new_ids_burst exempt",
        ),
        ("[link]", "heartbeat refill"),
        ("[places]", "provider shape timeout max_in_flight max_queued response_bytes"),
        ("[[server]]", "name listen peer_listen advertise admin_listen neighbours"),
    ];
    let values = [
        "-1",
        "0",
        "1.5",
        "true",
        "\"x\"",
        "\"\"",
        "[]",
        "[1]",
        "{}",
        "{ a = 1 }",
        "1979-05-27",
        "99999999999999999999999999999999999999999",
        "[{}]",
        "\"\\u0000\"",
        "nan",
    ];
    for (section, keys) in keys {
        for key in keys.split(' ') {
            for value in values {
                let contents = format!("{section}\n{key} = {value}\n");
                if let Err(error) = Config::parse(&contents) {
                    let said = error.to_string();
                    assert_plain(&said);
                    assert!(said.starts_with("the configuration:"), "{contents}{said}");
                }
            }
        }
    }
}

#[test]
fn addresses_that_cannot_be_dialled_are_refused() {
    let b = server("B", 1201, "neighbours = [\"A\"]");
    for dial in [
        "nowhere",
        "::1:5",
        "[fe80::1%lo]:5000",
        "[fe80::1]:5000",
        "host name:1",
        "nul\\u0000:5",
        "b.example:0",
        "127.0.0.1:0",
        "0.0.0.0:5000",
        "[::]:5000",
        "224.0.0.1:5000",
        ":5000",
        "b.example:",
        "b.example:+5",
        "b.example:65536",
        "b..example:5",
        "999.1.1.1:5",
        "1.2.3:5",
        "255.255.255.255:5",
        "http://b:5",
        "b.example:5 ",
        "[::1]5",
        "bücher.example:5",
    ] {
        let said = mistakes(format!("{A}advertise = \"{dial}\"\n{b}"));
        assert!(said[0].starts_with("4:13: invalid `advertise` of server A: "), "{dial}: {said:?}");
        assert_eq!(said.len(), 1, "{dial}: {said:?}");
    }
    for dial in [
        "b.example:5000",
        "localhost:5",
        "herd_b:5",
        "B.Example.:65535",
        "127.0.0.1:5",
        "[::1]:5",
        "[fe80::1%2]:5000",
        "1a.example:5",
        "xn--bcher-kva.example:5",
    ] {
        let output = check(format!("{PLAIN}{A}advertise = \"{dial}\"\n{b}"));
        assert_eq!(output.status.code(), Some(0), "{dial}: {}", text(&output.stderr));
    }
    // What stands in for a `advertise` that is not written must be one, too.
    let any_port = format!("{A}peer_listen = \"127.0.0.1:0\"\n{b}");
    assert!(
        mistakes(&any_port)[0]
            .starts_with("4:15: the neighbours of server A would connect to 127.0.0.1:0")
    );
    let link_local = format!("{A}peer_listen = \"[fe80::1]:5000\"\n{b}");
    assert!(mistakes(&link_local)[0].contains("needs the number of its zone"));
    // Nobody dials one without neighbours.
    assert_eq!(check(format!("{A}peer_listen = \"127.0.0.1:0\"\n")).status.code(), Some(0));
}

#[test]
fn addresses_that_cannot_be_listened_on_are_refused() {
    for address in
        ["224.0.0.1:5", "255.255.255.255:5", "[ff02::1]:5", "[fe80::1]:5", "[::ffff:224.0.0.1]:5"]
    {
        let listen = format!("[[server]]\nname = \"A\"\nlisten = \"{address}\"\n");
        let said = mistakes(listen);
        assert!(said[0].starts_with("3:10: invalid `listen` of server A: "), "{address}: {said:?}");
        let said = mistakes(format!("{A}peer_listen = \"{address}\"\n"));
        assert!(
            said[0].starts_with("4:15: invalid `peer_listen` of server A: "),
            "{address}: {said:?}"
        );
    }
    let zone = "[[server]]\nname = \"A\"\nlisten = \"[fe80::1%2]:5\"\n";
    assert_eq!(check(zone).status.code(), Some(0), "it may be another machine's");
}

#[test]
fn one_address_written_in_two_ways_is_one_address() {
    let pair = |listen: &str, peers: &str| {
        format!("[[server]]\nname = \"A\"\nlisten = \"{listen}\"\npeer_listen = \"{peers}\"\n")
    };
    for (listen, peers) in [
        ("0.0.0.0:5", "[::]:5"),
        ("[::]:5", "0.0.0.0:5"),
        ("[::]:5", "10.0.0.1:5"),
        ("127.0.0.1:5", "[::ffff:127.0.0.1]:5"),
        ("0.0.0.0:5", "[::ffff:127.0.0.1]:5"),
    ] {
        let said = mistakes(pair(listen, peers));
        let expected = format!("4:15: server A would listen twice on {listen}");
        assert!(said[0].starts_with(&expected), "{said:?}");
    }
    let output = check(pair("0.0.0.0:5", "[::1]:5"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mapped = server("B", 1201, "peer_listen = \"[::ffff:127.0.0.1]:1200\"");
    assert!(mistakes(format!("{A}{mapped}"))[0].contains("A and B would both listen on"));
    let dial = server("B", 1201, "advertise = \"[::ffff:127.0.0.1]:1200\"\nneighbours = [\"A\"]");
    assert!(mistakes(format!("{A}{dial}"))[0].contains("the address for the clients of A"));
}

#[test]
fn two_servers_that_would_be_dialled_at_one_address_are_refused() {
    let pair = |one: &str, other: &str| {
        format!(
            "[[server]]\nname = \"A\"\nlisten = \"0.0.0.0:1200\"\n{one}\n\
             [[server]]\nname = \"B\"\nlisten = \"0.0.0.0:1200\"\n{other}\nneighbours = [\"A\"]\n"
        )
    };
    let peers = "peer_listen = \"0.0.0.0:1300\"";
    for (one, other, place) in [
        (peers.to_owned(), peers.to_owned(), "8:15"),
        (
            format!("{peers}\nadvertise = \"h.example:5\""),
            format!("{peers}\nadvertise = \"H.example.:05\""),
            "10:13",
        ),
        (
            format!("{peers}\nadvertise = \"10.0.0.1:5\""),
            format!("{peers}\nadvertise = \"[::ffff:10.0.0.1]:5\""),
            "10:13",
        ),
    ] {
        let said = mistakes(pair(&one, &other));
        let expected = format!("{place}: neighbours would connect to both A (line 2) and B at");
        assert!(said[0].starts_with(&expected), "{said:?}");
    }
    let apart = pair(
        &format!("{peers}\nadvertise = \"a.example:1300\""),
        &format!("{peers}\nadvertise = \"b.example:1300\""),
    );
    assert_eq!(check(PLAIN.to_owned() + &apart).status.code(), Some(0));
    let clients =
        format!("{A}{}", server("B", 1201, "advertise = \"127.0.0.1:1200\"\nneighbours = [\"A\"]"));
    assert!(
        mistakes(clients)[0].starts_with(
            "7:13: neighbours would connect to server B at 127.0.0.1:1200, the address for the clients of A"
        )
    );
}

#[test]
fn a_server_may_not_have_the_name_of_the_service_that_runs_beside_it() {
    for name in ["Places", "places", "PLACES"] {
        let (folder, path) = file(server(name, 1200, ""));
        let path = path.to_str().expect("text");
        let logs = folder.path().to_str().expect("text");
        let herd = ["--herd", "--config", path, "--log-dir", logs];
        for words in [&["--check", "--config", path] as &[&str], &herd] {
            let output = herd_mio(words);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
            assert!(said.contains("herd.toml:2:8: a server cannot be named \"Places\""), "{said}");
        }
        let log = std::fs::read_to_string(folder.path().join("Places_log.txt"));
        assert!(
            log.expect("a log").contains("ERROR: "),
            "the log that both would have had says why"
        );
        // Where a provider is chosen, no service runs beside it.
        let output = herd_mio(&["--check", "--config", path, "--places", "offline"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let chosen = server(name, 1200, "[places]\nprovider = \"offline\"");
        assert_eq!(check(chosen).status.code(), Some(0));
    }
}

#[test]
fn a_pause_of_lines_is_shorter_than_the_time_for_a_line() {
    let limits = |text: &str| format!("{A}[limits]\n{text}\n");
    for contents in ["line_pause = \"60s\"", "line_pause = \"1s\"\nline_timeout = \"1s\""] {
        let said = mistakes(limits(contents));
        let expected = "5:14: limits.line_pause must be shorter than limits.line_timeout";
        assert!(said[0].starts_with(expected), "{said:?}");
    }
    for contents in [
        "line_pause = \"59999ms\"",
        "line_pause = \"off\"",
        "line_pause = \"2m\"\nline_timeout = \"3m\"",
    ] {
        let output = check(limits(contents));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

#[test]
fn a_server_logs_what_is_wrong_with_its_configuration() {
    let (folder, path) = file(format!("loops = 0\n{A}port = 5\n"));
    let (path, logs) = (path.to_str().expect("text"), folder.path().to_str().expect("text"));
    let output = herd_mio(&["--server", "A", "--config", path, "--log-dir", logs]);
    assert_eq!(output.status.code(), Some(2));
    let log = std::fs::read_to_string(folder.path().join("A_log.txt")).expect("a log");
    let records: Vec<&str> = log.lines().filter(|line| line.contains(" - ERROR: ")).collect();
    assert_eq!(records.len(), 2, "{log}");
    assert!(records[0].contains("herd.toml:1:9: invalid `loops`: 0; expected"), "{log}");
    assert!(records[1].contains("herd.toml:5:1: unknown key `port` of server A"), "{log}");
}
