//! The command line: parses the words, and checks each option by itself. [`crate::config`] applies the
//! options to the configuration file.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use lexopt::Arg;

use crate::config::{Overrides, admin};
use crate::errors::did_you_mean;
use crate::logging::{LevelOverrides, LevelsError};
use crate::places::Provider;
use crate::places::endpoint::Endpoint;
use crate::places::key::ApiKey;
use crate::protocol::Dialect;

/// A valid command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    pub mode: Mode,
    pub config: Option<PathBuf>,
    pub overrides: Overrides,
    pub log_dir: PathBuf,
    /// Where a Places server keeps its certificates.
    pub tls_dir: Option<PathBuf>,
}

/// The task of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Run one server.
    Server(String),
    /// Run all of them.
    Herd,
    /// Run a Places server at this address.
    PlacesServer(SocketAddr),
    /// Print the effective configuration or, with the path of another one (`--diff`), what changes from that
    /// one to this.
    Check(Option<PathBuf>),
    Help,
    Version,
}

/// Why a command line is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgsError {
    /// None of `--server`, `--herd`, `--places-server` and `--check` was given.
    NoMode,
    /// Two options that exclude each other.
    TwoModes(&'static str, &'static str),
    /// A second server name, or a name beside another mode.
    Name {
        name: String,
        beside: String,
    },
    /// `--diff` without `--check`.
    DiffAlone,
    Unknown(String),
    Twice(&'static str),
    NeedsValue(&'static str),
    TakesNoValue(&'static str),
    /// `value` is None where it may be a secret.
    Value {
        option: &'static str,
        value: Option<String>,
        expected: &'static str,
    },
    /// Of `--log-level`.
    Levels {
        value: String,
        reason: LevelsError,
    },
}

/// The words, split into options and a name; each option at most once.
#[derive(Default)]
struct Typed {
    options: Vec<(&'static str, OsString)>,
    /// The server's, as in `herd-mio Goloman`.
    name: Option<String>,
}

impl Args {
    /// Parses the words after the program's name.
    pub fn parse(words: Vec<OsString>) -> Result<Args, ArgsError> {
        let asks =
            |names: [&str; 2]| words.iter().any(|word| names.iter().any(|name| word == name));
        let (help, version) = (asks(["-h", "--help"]), asks(["-V", "--version"]));
        let mut typed = match help || version {
            true => Typed::default(), // Help is printed even if the rest is wrong.
            false => Typed::read(words)?,
        };
        if typed.has("--places-key") && typed.has("--places-key-file") {
            return Err(ArgsError::TwoModes("--places-key", "--places-key-file"));
        }
        let mode = match (help, version) {
            (true, _) => Mode::Help,
            (_, true) => Mode::Version,
            _ => typed.mode()?,
        };
        if typed.has("--diff") {
            return Err(ArgsError::DiffAlone);
        }
        let overrides = Overrides {
            log_level: typed.levels()?.unwrap_or_default(),
            dialect: typed.value("--dialect", "report or course", Dialect::named)?,
            admin: typed.value("--admin", ADMIN, admin::parse_address)?,
            provider: typed.value("--places", "google, google-new or offline", Provider::named)?,
            places_url: typed.secret("--places-url", HTTPS_URL, Endpoint::parse)?,
            places_ca: typed.path("--places-ca"),
            places_key_file: typed.path("--places-key-file"),
            places_key: typed.secret("--places-key", "printable ASCII without spaces", key)?,
        };
        Ok(Args {
            mode,
            config: typed.path("--config"),
            overrides,
            log_dir: typed.path("--log-dir").unwrap_or_else(|| ".".into()),
            tls_dir: typed.path("--tls-dir"),
        })
    }
}

impl Typed {
    /// Splits the words; the table of options says which of them take a value.
    fn read(words: Vec<OsString>) -> Result<Typed, ArgsError> {
        let mut typed = Typed::default();
        let mut words = lexopt::Parser::from_args(words);
        while let Some(word) = words.next().map_err(unexpected)? {
            let name = match word {
                Arg::Value(name) => {
                    let name = name.to_string_lossy().into_owned();
                    if let Some(beside) = typed.name.replace(name.clone()) {
                        return Err(ArgsError::Name { name, beside });
                    }
                    continue;
                }
                Arg::Long(name) => format!("--{name}"),
                Arg::Short(letter) => short(letter, &mut words),
            };
            let Some(&(option, takes_value)) = OPTIONS.iter().find(|(known, _)| name == *known)
            else {
                if let Some(ends) = ASK_ONLY.iter().find(|ends| name == **ends) {
                    return Err(ArgsError::TakesNoValue(ends)); // The case without a value was handled above.
                }
                // Leave out its value, which may be a secret.
                return Err(ArgsError::Unknown(name));
            };
            let value = match takes_value {
                true => value_of(option, &mut words)?,
                false => OsString::new(),
            };
            if typed.options.iter().any(|(other, _)| *other == option) {
                return Err(ArgsError::Twice(option));
            }
            typed.options.push((option, value));
        }
        Ok(typed)
    }

    /// The one mode that was given.
    fn mode(&mut self) -> Result<Mode, ArgsError> {
        let given = |option: &&&str| self.has(option);
        let mut modes = MODES.iter().filter(given);
        let (first, second) = (modes.next(), modes.next());
        if let (Some(first), Some(second)) = (first, second) {
            return Err(ArgsError::TwoModes(first, second));
        }
        if let (Some(name), Some(mode)) = (&self.name, first) {
            let beside = match self.options.iter().find(|(option, _)| *option == "--server") {
                Some((_, other)) => format!("--server {}", other.to_string_lossy()),
                None => (*mode).to_owned(),
            };
            return Err(ArgsError::Name { name: name.clone(), beside });
        }
        let server = self.value("--server", "a server's name", |name| Some(name.to_owned()))?;
        let expected = "an IP address and a port, such as 127.0.0.1:8443";
        let service = self.value("--places-server", expected, |text| text.parse().ok())?;
        match (server.or(self.name.take()), service, first) {
            (Some(name), ..) => Ok(Mode::Server(name)),
            (_, Some(address), _) => Ok(Mode::PlacesServer(address)),
            (_, _, Some(&"--herd")) => Ok(Mode::Herd),
            (_, _, Some(_)) => Ok(Mode::Check(self.path("--diff"))),
            _ => Err(ArgsError::NoMode),
        }
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(other, _)| *other == option)
    }

    fn take(&mut self, option: &str) -> Option<OsString> {
        let at = self.options.iter().position(|(other, _)| *other == option)?;
        Some(self.options.swap_remove(at).1)
    }

    /// A path may be any bytes.
    fn path(&mut self, option: &str) -> Option<PathBuf> {
        self.take(option).map(PathBuf::from)
    }

    /// A value that is text.
    fn value<T>(
        &mut self,
        option: &'static str,
        expected: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ArgsError> {
        let Some(value) = self.take(option) else {
            return Ok(None);
        };
        let unusable = || {
            let value = Some(value.to_string_lossy().into_owned());
            ArgsError::Value { option, value, expected }
        };
        value.to_str().and_then(parse).map(Some).ok_or_else(unusable)
    }

    /// The levels of the log.
    fn levels(&mut self) -> Result<Option<LevelOverrides>, ArgsError> {
        let Some(value) = self.take("--log-level") else {
            return Ok(None);
        };
        let text = value.to_string_lossy().into_owned();
        match LevelOverrides::parse(&text) {
            Ok(levels) => Ok(Some(levels)),
            Err(reason) => Err(ArgsError::Levels { value: text, reason }),
        }
    }

    /// The same for a value that is never printed because it is a key or may contain one.
    fn secret<T>(
        &mut self,
        option: &'static str,
        expected: &'static str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ArgsError> {
        let unusable = ArgsError::Value { option, value: None, expected };
        self.value(option, expected, parse).map_err(|_| unusable)
    }
}

/// A word that begins with one dash, up to a `=`, because a secret may follow that. There are no such
/// options.
fn short(letter: char, words: &mut lexopt::Parser) -> String {
    let mut name = format!("-{letter}");
    while words.try_raw_args().is_none()
        && let Ok(Some(Arg::Short(letter))) = words.next()
    {
        name.push(letter);
    }
    name
}

/// The value of an option. Neither the next option nor an empty word, as from an unset variable, is one.
fn value_of(option: &'static str, words: &mut lexopt::Parser) -> Result<OsString, ArgsError> {
    let joined = words.optional_value();
    let is_joined = joined.is_some();
    let value = joined.map_or_else(|| words.value(), Ok);
    let value = value.map_err(|_| ArgsError::NeedsValue(option))?;
    let is_option = !is_joined && value.as_bytes().starts_with(b"--");
    match is_option || value.is_empty() {
        true => Err(ArgsError::NeedsValue(option)),
        false => Ok(value),
    }
}

/// The only error when the next word is read: the option before it has a value but takes none.
fn unexpected(error: lexopt::Error) -> ArgsError {
    let known = |name: &str| OPTIONS.iter().find(|(known, _)| *known == name);
    match &error {
        lexopt::Error::UnexpectedValue { option, .. } => match known(option) {
            Some((option, _)) => ArgsError::TakesNoValue(option),
            None => ArgsError::Unknown(option.clone()),
        },
        _ => ArgsError::Unknown(error.to_string()),
    }
}

/// Splits `--name=value` into the option and its value.
pub fn split(word: &OsStr) -> (OsString, Option<OsString>) {
    let bytes = word.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) => {
            let value = OsString::from_vec(bytes[at + 1..].to_vec());
            (OsString::from_vec(bytes[..at].to_vec()), Some(value))
        }
        None => (word.to_owned(), None),
    }
}

/// Takes an option and its value out of the words.
pub fn remove(words: &mut Vec<OsString>, option: &str) {
    while let Some(at) = words.iter().position(|word| split(word).0 == *option) {
        let is_joined = split(&words[at]).1.is_some();
        let end = if is_joined { at + 1 } else { (at + 2).min(words.len()) };
        words.drain(at..end);
    }
}

fn key(text: &str) -> Option<ApiKey> {
    ApiKey::parse(text.as_bytes())
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgsError::NoMode => f.write_str(
                "one of --server NAME, --herd, --check or --places-server IP:PORT is required; see \
                 --help",
            ),
            ArgsError::TwoModes(one, other) => {
                write!(f, "{one} and {other} exclude each other; give only one of them")
            }
            ArgsError::Name { name, beside } => write!(
                f,
                "unexpected argument {name:?} beside {beside}: a name alone means --server NAME, \
                 and only one server can be given"
            ),
            ArgsError::Unknown(option) => {
                let options =
                    OPTIONS.iter().map(|(option, _)| *option).chain(["--help", "--version"]);
                let meant = did_you_mean(option, options);
                write!(f, "unknown option {}{meant} (see --help)", option.escape_debug())
            }
            ArgsError::DiffAlone => f.write_str(
                "--diff needs --check: --check --config NEW --diff OLD prints what changes",
            ),
            ArgsError::Twice(option) => write!(f, "{option} was given more than once"),
            ArgsError::NeedsValue(option) => write!(f, "{option} needs a value"),
            ArgsError::TakesNoValue(option) => write!(f, "{option} takes no value"),
            ArgsError::Value { option, value: Some(value), expected } => {
                write!(f, "invalid value {value:?} for {option}: expected {expected}")
            }
            ArgsError::Levels { value, reason } => {
                write!(f, "invalid value {value:?} for --log-level: {reason}")
            }
            ArgsError::Value { option, value: None, expected } => {
                write!(f, "invalid value for {option}: expected {expected}")
            }
        }
    }
}

impl std::error::Error for ArgsError {}

const ADMIN: &str = "a port on 127.0.0.1, or an IP address (not a name) and a port";
const HTTPS_URL: &str = "an https:// URL without a query, user or fragment";

/// The modes; exactly one is required.
const MODES: &[&str] = &["--server", "--herd", "--check", "--places-server"];
/// How `--help` and `--version` are written.
const ASK_ONLY: [&str; 4] = ["-h", "--help", "-V", "--version"];
/// Every option, and whether it takes a value.
const OPTIONS: &[(&str, bool)] = &[
    ("--server", true),
    ("--herd", false),
    ("--check", false),
    ("--diff", true),
    ("--config", true),
    ("--dialect", true),
    ("--admin", true),
    ("--log-dir", true),
    ("--log-level", true),
    ("--places", true),
    ("--places-url", true),
    ("--places-ca", true),
    ("--places-key-file", true),
    ("--places-key", true),
    ("--places-server", true),
    ("--tls-dir", true),
];

/// What `--help` prints.
pub const HELP: &str = "\
herd-mio: servers that tell each other where their clients are, on a hand-written event loop

Usage:
  herd-mio NAME [options]              run one server of the herd; also --server NAME
  herd-mio --herd [options]            run every server, one process each; stop with Ctrl-C
  herd-mio --check [options]           validate the configuration, print it, and exit
  herd-mio --check --diff OLD [options]
                                       print what changes from the configuration OLD, and whether a
                                       reload or only a restart puts it in force
  herd-mio --places-server IP:PORT     serve the embedded places over HTTPS (for tests and demos)
  herd-mio --help | --version

Configuration:
  --config FILE            configuration file (TOML); herd.example.toml explains every setting
                           [default: five servers on 127.0.0.1, ports 12138 to 12142]
  --dialect report|course  form of the answers, overrides the file [default: report]

Administration:
  --admin ADDR             serve health, metrics and JSON over HTTP at this port of 127.0.0.1, or at
                           this IP:PORT; with --herd the servers count up from it; overrides
                           admin_listen [default: off]

Log:
  --log-dir DIR            folder for the logs, <server>_log.txt [default: the current folder]
  --log-level LEVELS       off, error, warning, info, debug or trace; also by target, such as
                           info,link=debug; overrides [log] level and levels [default: info]

Places:
  --places PROVIDER        google, google-new, or offline (the embedded places)
                           [default: google-new with an API key, offline without one]
  --places-url URL         another https endpoint with the provider's API
  --places-ca FILE         PEM certificates to trust for it, in place of the built-in roots
  --places-key-file FILE   file that holds the API key; excludes --places-key
  --places-key KEY         the API key; excludes --places-key-file, which is better:
                           `ps` shows the command line to every user

With --places-server:
  --places-key-file FILE   the API key that its clients must send; also --places-key and
                           HERD_PLACES_KEY [default: none]
  --tls-dir DIR            folder for its certificates; clients trust DIR/ca.pem (--places-ca)
                           [default: the current folder; with --herd a temporary one]

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

Environment:
  HERD_PLACES_KEY          the API key, if no option gives it

Exit status:
  0  stopped by SIGTERM or SIGINT; the configuration is valid (--check)
  1  failed at run time, for example because a port is in use; stopped by a second signal
  2  the command line or the configuration is invalid

Examples:
  herd-mio --herd                      the five servers; in another terminal: nc localhost 12138
      IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.5
      WHATSAT kiwi.cs.ucla.edu 10 5
  herd-mio --check --config herd.toml
  herd-mio Goloman --config herd.toml --log-dir /var/log/herd --log-level debug
  herd-mio Goloman --places google-new --places-key-file key.txt
  herd-mio Goloman --admin 32138       in another terminal: curl localhost:32138/readyz
";
