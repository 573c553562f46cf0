//! Claim: the output of `--check` is a configuration with the same meaning as the one that was read, and short even
//! for large herds; `--check` warns of likely mistakes; and a configuration that it accepts runs.

mod common;

use std::fmt::Write;

use common::Setup;
use common::program::{A, PLAIN, check, herd_mio, server, text};
use herd_mio::config::Config;

/// Configurations with every setting away from its default, and the shapes that addresses and links can have.
fn right() -> Vec<String> {
    let settings = "dialect = \"course\"\nmax_clients = 7\nmax_future = \"87600h\"\nloops = 3\n\
        [limits]\nline_bytes = 99\nline_timeout = \"90s\"\nline_pause = \"250ms\"\nclient_connections = 5\n\
        client_connections_per_address = 3\nnew_ids_per_second = 7\nnew_ids_burst = 9\n\
        exempt = [\"10.0.0.0/8\", \"2001:db8::/32\"]\noutput_bytes = 1000\nwrite_timeout = \"1h\"\nbuffer_bytes = 1073741824\n\
        [link]\nheartbeat = \"1ms\"\nrefill = false\n\
        [places]\nprovider = \"offline\"\nshape = \"service\"\ntimeout = \"61s\"\nmax_in_flight = 1\n\
        max_queued = 0\nresponse_bytes = 1\n\
        [reload]\nwatch = \"7s\"\n";
    vec![
        A.to_owned(),
        format!("{settings}{A}"),
        format!(
            "limits.line_pause = \"off\"\nlimits.exempt = []\nlimits.new_ids_per_second = 0\n{A}"
        ),
        PLAIN.to_owned()
            + &server("A", 1200, "neighbours = [\"B\", \"C\", \"B\"]")
            + &server("B", 1201, "neighbours = [\"A\", \"C\"]\nadvertise = \"b.example:5\"")
            + "[[server]]\nname = \"C\"\nlisten = \"[::1]:5\"\npeer_listen = \"[::]:6\"\nadvertise = \"c:6\"\n",
        "[[server]]\nname = \"_\"\nlisten = \"0.0.0.0:0\"\n".to_owned(),
        format!(
            "{PLAIN}{A}{}",
            server("B", 1201, "peer_listen = \"0.0.0.0:1300\"\nneighbours = [\"A\"]")
        ),
    ]
}

#[test]
fn the_output_of_check_is_an_equivalent_configuration() {
    for contents in right() {
        let output = check(&contents);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        let meant = Config::parse(&contents).expect("check has accepted it");
        assert_eq!(Config::parse(&printed), Ok(meant), "{contents}\n{printed}");
    }
    let default = text(&herd_mio(&["--check"]).stdout);
    assert_eq!(Config::parse(&default), Ok(Config::default()), "{default}");
    let course = Config::parse(&text(&herd_mio(&["--check", "--dialect", "course"]).stdout));
    assert_eq!(course.map(|config| config.dialect), Ok(herd_mio::protocol::Dialect::Course));

    // Each setting stands there by the name that the file gives it.
    let printed = text(&check(&right()[1]).stdout);
    let table: toml::Table = printed.parse().expect("TOML");
    let written: toml::Table = right()[1].parse().expect("TOML");
    for (key, value) in &written {
        if let toml::Value::Table(section) = value {
            for (key_within, value) in section {
                assert_eq!(table[key].get(key_within), Some(value), "{key}.{key_within}");
            }
        } else if key != "server" {
            assert_eq!(table.get(key), Some(value), "{key}");
        }
    }
}

#[test]
fn check_shows_the_reports_herd() {
    let printed = text(&herd_mio(&["--check", "--dialect=course"]).stdout);
    for part in [
        "# Effective configuration: 5 servers, 5 links.",
        "dialect = \"course\"",
        "max_clients = 1000000",
        "name = \"Goloman\"\nlisten = \"127.0.0.1:12138\"\npeer_listen = \"127.0.0.1:22138\"\n\
         neighbours = [\"Hands\", \"Holiday\", \"Wilkes\"]\n",
        "#     Welsh  . . o . \\  Holiday\n",
        "# places.provider = \"offline\", because no API key is given",
        "limits.output_bytes = 1048576      # 1 MiB\n",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(!printed.contains("warning"), "{printed}");
}

#[test]
fn check_of_a_thousand_servers_is_short() {
    let mut contents = String::new();
    for number in 0..1_000 {
        let near = [1, 10, 100].map(|step| format!("Server{}", (number + step) % 1_000));
        let _ = write!(
            contents,
            "[[server]]\nname = \"Server{number}\"\nlisten = \"127.0.0.1:{}\"\nneighbours = {near:?}\n",
            40_000 + number
        );
    }
    let output = check(&contents);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.len() < 200_000, "{} bytes", printed.len());
    assert_eq!(Config::parse(&printed), Config::parse(&contents));
}

#[test]
fn suspicious_configuration_warns() {
    let output = check(format!("{A}{}", server("B", 40_000, "")));
    let printed = text(&output.stdout);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    // Another machine may give other ports away; the rule itself is tested beside the code.
    if range.is_ok_and(|range| range.split_whitespace().eq(["32768", "60999"])) {
        for port in [40_000, 50_000] {
            let part = format!(
                "# warning: B listens on 127.0.0.1:{port}, a port that the system uses for outgoing"
            );
            assert!(printed.contains(&part), "{part}: {printed}");
        }
    }
    assert!(
        printed.contains("# warning: the servers form 2 groups with no link between them"),
        "{printed}"
    );
    assert!(!printed.contains("A listens"), "{printed}");
}

#[test]
fn names_that_are_accepted_run() {
    for name in ["_", "a-", "0", "Places", "herd", "x".repeat(64).as_str()] {
        let setup =
            Setup::new(&[(name, &[])]).any_port().section("[places]\nprovider = \"offline\"");
        let path = setup.config_file(name);
        let output = herd_mio(&["--check", "--config", path.to_str().expect("text")]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        setup.start(name).assert_serves();
    }
}

#[test]
fn an_edge_named_once_counts_both_ways_and_ports_follow() {
    let config = Config::parse(
        "[security]\nallow_plaintext = [\"neighbours\"]\n\
         [[server]]\nname = \"A\"\nlisten = \"127.0.0.1:1200\"\nneighbours = [\"B\"]\n\
         [[server]]\nname = \"B\"\nlisten = \"0.0.0.0:0\"\npeer_listen = \"0.0.0.0:1300\"\n",
    );
    let servers = config.expect("a herd").servers;
    assert_eq!((&servers[0].neighbours, &servers[1].neighbours), (&vec![1], &vec![0]));
    assert_eq!(servers[0].peer_listen, ([127, 0, 0, 1], 11_200).into());
    assert_eq!(servers[1].advertise, "127.0.0.1:1300");
}

#[test]
fn check_with_diff_names_each_change_and_when_it_takes_effect() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let (old, new) = (path("old.toml"), path("new.toml"));
    std::fs::write(&old, A).expect("it can be written");
    let changed = format!("max_clients = 5\nlink.heartbeat = \"2s\"\nloops = 2\n{A}");
    std::fs::write(&new, changed + &server("B", 1201, "")).expect("it can be written");
    let diff = |old: &str| herd_mio(&["--check", "--config", &new, "--diff", old]);
    let output = diff(&old);
    assert_eq!(output.status.code(), Some(0), "a difference is no failure");
    let expected = "whole herd  max_clients: 1000000 -> 5\nrestart     loops: 1 -> 2\n\
                    reload      link.heartbeat: 5s -> 2s\nreload      server B added\n";
    assert_eq!(text(&output.stdout), expected);
    let same = herd_mio(&["--check", "--config", &old, "--diff", &old]);
    assert_eq!(text(&same.stdout), "no changes\n");
    // Both files get the same options.
    let same = herd_mio(&["--check", "--dialect", "course", "--config", &old, "--diff", &old]);
    assert_eq!(text(&same.stdout), "no changes\n");

    let broken = path("broken.toml");
    std::fs::write(&broken, "colour = 1\n").expect("it can be written");
    for (file, reason) in [(&broken, ":1:1: unknown key `colour`"), (&path("none"), " (--diff): ")]
    {
        let output = diff(file);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
        let said = text(&output.stderr);
        assert!(said.contains(&format!("{file}{reason}")), "{said}");
    }
    let alone = herd_mio(&["--config", &new, "--diff", &old, "A"]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(text(&alone.stderr).contains("--diff needs --check"), "{}", text(&alone.stderr));
}
