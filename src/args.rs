//! The command line: what was typed. What it means together with the configuration file is in
//! [`crate::config`].

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use log::LevelFilter;

use crate::config::Provider;
use crate::places::endpoint::Endpoint;
use crate::places::key::Key;
use crate::protocol::Dialect;

/// What was typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Args {
    pub mode: Mode,
    pub config: Option<PathBuf>,
    pub dialect: Option<Dialect>,
    pub log_dir: PathBuf,
    pub log_level: LevelFilter,
    pub places: Option<Provider>,
    pub places_url: Option<Endpoint>,
    pub places_ca: Option<PathBuf>,
    pub places_key_file: Option<PathBuf>,
    pub places_key: Option<Key>,
    pub tls_dir: PathBuf,
}

/// What the program is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Run one server.
    Server(String),
    /// Run all of them.
    Herd,
    /// Run a Places service at this address.
    PlacesServer(SocketAddr),
    /// Say what the configuration means.
    Check,
    Help,
    Version,
}

/// A command line that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgsError {
    /// Neither or more than one of `--server`, `--herd`, `--places-server` and `--check`.
    Mode,
    Unknown(String),
    Twice(String),
    MissingValue(&'static str),
    Value {
        option: &'static str,
        value: String,
        expected: &'static str,
    },
}

impl Args {
    /// Reads what was typed behind the program's name.
    pub fn parse(words: Vec<OsString>) -> Result<Args, ArgsError> {
        let mut words = pico_args::Arguments::from_vec(words);
        let help = words.contains(["-h", "--help"]);
        let version = words.contains(["-V", "--version"]);
        let herd = words.contains("--herd");
        let check = words.contains("--check");
        let server = text(&mut words, "--server")?;
        let service =
            value(&mut words, "--places-server", "an address as 127.0.0.1:8443", address)?;
        let args = Args {
            mode: match (help, version, server, service, herd, check) {
                (true, ..) => Mode::Help,
                (_, true, ..) => Mode::Version,
                (_, _, Some(name), None, false, false) => Mode::Server(name),
                (_, _, None, Some(address), false, false) => Mode::PlacesServer(address),
                (_, _, None, None, true, false) => Mode::Herd,
                (_, _, None, None, false, true) => Mode::Check,
                _ => {
                    reject_rest(words)?;
                    return Err(ArgsError::Mode);
                }
            },
            config: text(&mut words, "--config")?.map(PathBuf::from),
            dialect: value(&mut words, "--dialect", "report or course", dialect)?,
            log_dir: text(&mut words, "--log-dir")?.map_or_else(|| ".".into(), PathBuf::from),
            log_level: value(&mut words, "--log-level", LEVELS, level)?
                .unwrap_or(LevelFilter::Info),
            places: value(&mut words, "--places", "google, google-new or offline", provider)?,
            places_url: value(&mut words, "--places-url", HTTPS_URL, Endpoint::parse)?,
            places_ca: text(&mut words, "--places-ca")?.map(PathBuf::from),
            places_key_file: text(&mut words, "--places-key-file")?.map(PathBuf::from),
            places_key: value(&mut words, "--places-key", "one word of visible ASCII", key)?,
            tls_dir: text(&mut words, "--tls-dir")?.map_or_else(|| ".".into(), PathBuf::from),
        };
        match args.mode {
            Mode::Help | Mode::Version => Ok(args),
            _ => reject_rest(words).map(|()| args),
        }
    }
}

/// What is left over is a mistake, and an option that is left over was given twice.
fn reject_rest(words: pico_args::Arguments) -> Result<(), ArgsError> {
    let rest = words.finish();
    let Some(first) = rest.first() else {
        return Ok(());
    };
    let word = first.to_string_lossy().into_owned();
    let name = word.split('=').next().unwrap_or(&word);
    Err(match OPTIONS.contains(&name) {
        true => ArgsError::Twice(name.to_owned()),
        false => ArgsError::Unknown(word),
    })
}

fn text(
    words: &mut pico_args::Arguments,
    option: &'static str,
) -> Result<Option<String>, ArgsError> {
    let value = words.opt_value_from_fn(option, String::from_str);
    match value {
        Ok(Some(text)) if text.starts_with("--") => Err(ArgsError::MissingValue(option)),
        Ok(text) => Ok(text),
        Err(_) => Err(ArgsError::MissingValue(option)),
    }
}

fn value<T>(
    words: &mut pico_args::Arguments,
    option: &'static str,
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>, ArgsError> {
    let Some(typed) = text(words, option)? else {
        return Ok(None);
    };
    match parse(&typed) {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(ArgsError::Value { option, value: typed, expected }),
    }
}

/// A dialect by its name in the configuration.
pub fn dialect(name: &str) -> Option<Dialect> {
    match name {
        "report" => Some(Dialect::Report),
        "course" => Some(Dialect::Course),
        _ => None,
    }
}

/// A provider by its name in the configuration.
pub fn provider(name: &str) -> Option<Provider> {
    match name {
        "google" => Some(Provider::Google),
        "google-new" => Some(Provider::GoogleNew),
        "offline" => Some(Provider::Offline),
        _ => None,
    }
}

fn level(name: &str) -> Option<LevelFilter> {
    match name {
        "off" => Some(LevelFilter::Off),
        "error" => Some(LevelFilter::Error),
        "warning" => Some(LevelFilter::Warn),
        "info" => Some(LevelFilter::Info),
        "debug" => Some(LevelFilter::Debug),
        "trace" => Some(LevelFilter::Trace),
        _ => None,
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

fn key(text: &str) -> Option<Key> {
    Key::parse(text.as_bytes())
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgsError::Mode => f.write_str(
                "say exactly one of --server NAME, --herd, --check and --places-server ADDRESS \
                     (or --help)",
            ),
            ArgsError::Unknown(word) => {
                write!(f, "{word:?} is no option of this program; see --help")
            }
            ArgsError::Twice(option) => write!(f, "{option} is given twice"),
            ArgsError::MissingValue(option) => write!(f, "{option} needs a value"),
            ArgsError::Value { option, value, expected } => {
                write!(f, "{option} is {value:?}, and should be {expected}")
            }
        }
    }
}

impl std::error::Error for ArgsError {}

const HTTPS_URL: &str = "an https:// URL without a query";
const LEVELS: &str = "off, error, warning, info, debug or trace";

const OPTIONS: &[&str] = &[
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
    "--places-key",
    "--places-server",
    "--tls-dir",
];

/// What `--help` prints.
pub const HELP: &str = "\
herd-mio: a herd of servers that know where clients are

    herd-mio --server NAME [options]     run one server of the herd
    herd-mio --herd [options]            run all of them, each in a process of its own, until Ctrl-C
    herd-mio --check [options]           read the configuration, say what it means, and exit
    herd-mio --places-server ADDRESS     be a Places service, over HTTPS, from the gazetteer
    herd-mio --help | --version

    --config FILE            the herd, as TOML [the report's five servers on 127.0.0.1,
                             ports 12138 to 12142]
    --dialect report|course  overrides the configuration [report]
    --log-dir DIR            where <server>_log.txt goes [the current folder]
    --log-level LEVEL        off, error, warning, info, debug, trace [info]
    --places PROVIDER        google, google-new or offline, the embedded gazetteer
                             [google-new where a key is given, else offline]
    --places-url URL         another endpoint that speaks the provider's API, https only
    --places-ca FILE         PEM certificates to trust for it, instead of the built-in roots
    --places-key-file FILE   the API key; else the variable HERD_PLACES_KEY

  of --places-server:
    --places-key KEY         what it is to be asked with, also by the two ways above [nothing]
    --tls-dir DIR            where it keeps its certificates; DIR/ca.pem is what --places-ca
                             wants [the current folder]

Options are also written --name=value. Exit status: 0 after SIGTERM, SIGINT or --check, 2 for a
command line or configuration that cannot be used, 1 for what fails at run time.

Try: herd-mio --herd, then in another terminal: nc localhost 12138
     IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.5
     WHATSAT kiwi.cs.ucla.edu 10 5
";
