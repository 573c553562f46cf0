//! What `--help` prints: the table of options, and what has no row there.

use std::fmt::Write;

use super::options::{CliOption, Section, of};

/// Columns of a line.
const WIDTH: usize = 100;
/// Where the texts of the options begin.
const TEXT_COLUMN: usize = 27;

/// The whole text.
pub fn help() -> String {
    let mut help = String::from(TITLE);
    for (section, heading) in Section::LISTED {
        let _ = writeln!(help, "\n{heading}:"); // Writing to a String cannot fail.
        for option in of(section) {
            append(&mut help, option);
        }
    }
    help + REST
}

/// The option with what stands for its value.
fn written(option: &CliOption) -> String {
    let short = option.short.map(|short| format!("{short}, ")).unwrap_or_default();
    let value = option.value.shown().map(|value| format!(" {value}")).unwrap_or_default();
    format!("{short}{}{value}", option.name)
}

/// Appends an option and its text, which is broken into lines.
fn append(help: &mut String, option: &CliOption) {
    let mut line = format!("  {}", written(option));
    if line.len() + 2 > TEXT_COLUMN {
        let _ = writeln!(help, "{line}"); // Writing to a String cannot fail.
        line.clear();
    }
    let mut is_begun = false;
    for word in option.text.split(' ') {
        if is_begun && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(help, "{line}");
            line.clear();
            is_begun = false;
        }
        match is_begun {
            true => line.push(' '),
            false => line.extend(std::iter::repeat_n(' ', TEXT_COLUMN - line.len())),
        }
        line.push_str(word);
        is_begun = true;
    }
    let _ = writeln!(help, "{line}");
}

const TITLE: &str = "\
herd-mio: servers that tell each other where their clients are, on a hand-written event loop

Usage: herd-mio TASK [options]
       herd-mio NAME [options]         runs the server NAME, as --server NAME does
";

const REST: &str = "
Options also accept --name=value.

Ports:
  Clients connect to a server's `listen`, neighbours to its `peer_listen` (by default on 127.0.0.1,
  10,000 above). Without a configuration file: Goloman 12138, Hands 12139, Holiday 12140,
  Wilkes 12141, Welsh 12142, and 22138 to 22142 for neighbours.

Signals:
  SIGTERM, SIGINT          stop gracefully, within 5 s; a second one, a second or more after the
                           first, stops at once
  SIGHUP                   read the configuration again and reopen the log; stops the program if its
                           terminal was closed
  SIGUSR1                  reopen the log (for logrotate)
  SIGUSR2                  drain: close the clients evenly, within 30 s, then stop ([stop])

Environment:
  HERD_PLACES_KEY          the API key, if no option gives it; with --places-server: the key that
                           its clients must send
  NOTIFY_SOCKET, LISTEN_FDS, and those that belong to them: set by a service manager, such as
                           systemd, which learns how the server is and may open its ports

Exit status:
  0  stopped by a signal or drained; the configuration is valid (--check); the answer is 200
     (--probe)
  1  failed at run time, for example because a port is in use; stopped by a second signal; the
     answer is not 200 (--probe)
  2  the command line or the configuration is invalid

Examples:
  herd-mio --herd                      the five servers; in another terminal: nc localhost 12138
      IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.5
      WHATSAT kiwi.cs.ucla.edu 10 5
  herd-mio --make-certificates tls --config herd.toml
  herd-mio --check --config herd.toml
  herd-mio Goloman --config herd.toml --log-dir /var/log/herd --log-level debug
  herd-mio Goloman --places google-new --places-key-file key.txt
  herd-mio Goloman --admin 32138       in another terminal: curl localhost:32138/readyz
";
