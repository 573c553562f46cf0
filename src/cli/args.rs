//! The command line: parses the words, and checks each option by itself. [`crate::config`] applies the
//! options to the configuration file.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use lexopt::Arg;

use super::args_error::ArgsError;
use super::completion::Shell;
use super::make_certificates::Making;
use super::options::{CliOption, DUMP_STATE, LOAD_STATE, REPEATABLE, Section, Value, find, of};
use super::probe::ProbeUrl;
use crate::config::{AdminAddresses, Overrides, PassedAddresses, admin};
use crate::logging::LevelOverrides;
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
    /// What a probe trusts in place of the built-in roots.
    pub probe_ca: Option<PathBuf>,
    pub making: Making,
}

/// The task of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Run one server.
    Server(String),
    /// Print what this server's database holds.
    DumpState(String),
    /// Add what is on standard input to this server's database.
    LoadState(String),
    /// Run all of them.
    Herd,
    /// Run a Places server at this address.
    PlacesServer(SocketAddr),
    /// Print the effective configuration or, with the path of another one (`--diff`), what changes from that
    /// one to this.
    Check(Option<PathBuf>),
    /// Ask a server how it is.
    Probe(ProbeUrl),
    /// Make certificates in this folder.
    MakeCertificates(PathBuf),
    /// Print the completion of the options for a shell.
    Completion(Shell),
    Help,
    Version,
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
        let asks = |name| words.iter().any(|word| asks_for(word) == Some(name));
        let (help, version) = (asks("--help"), asks("--version"));
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
        let mode = typed.state_mode(mode)?;
        if typed.has("--diff") {
            return Err(ArgsError::DiffAlone);
        }
        let makes = matches!(mode, Mode::MakeCertificates(_) | Mode::Help | Mode::Version);
        if let Some(option) = OF_MAKING.into_iter().find(|option| !makes && typed.has(option)) {
            return Err(ArgsError::MakingAlone(option));
        }
        let making = typed.making()?;
        let admin = typed.value("--admin", ADMIN, admin::parse_address)?;
        let overrides = Overrides {
            log_level: typed.levels()?.unwrap_or_default(),
            dialect: typed.value("--dialect", "report or course", Dialect::named)?,
            admin: admin.map(|address| of_mode(&mode, address)),
            provider: typed.value("--places", "google, google-new or offline", Provider::named)?,
            places_url: typed.secret("--places-url", HTTPS_URL, Endpoint::parse)?,
            places_ca: typed.path("--places-ca"),
            places_key_file: typed.path("--places-key-file"),
            places_key: typed.secret("--places-key", "printable ASCII without spaces", key)?,
            state_dir: typed.path("--state-dir"),
            passed: PassedAddresses::default(),
        };
        Ok(Args {
            mode,
            config: typed.path("--config"),
            overrides,
            log_dir: typed.path("--log-dir").unwrap_or_else(|| ".".into()),
            tls_dir: typed.path("--tls-dir"),
            probe_ca: typed.path("--probe-ca"),
            making,
        })
    }
}

/// Where `--admin` puts the admin listener of one server, or those of all.
fn of_mode(mode: &Mode, address: SocketAddr) -> AdminAddresses {
    match mode {
        Mode::Server(name) => AdminAddresses::Of([(name.clone(), address)].into()),
        _ => AdminAddresses::From(address),
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
            // An unknown one without its value, which may be a secret.
            let &CliOption { name: option, value, section, .. } =
                find(&name).ok_or(ArgsError::Unknown(name))?;
            if section == Section::Ask {
                return Err(ArgsError::TakesNoValue(option)); // The case without a value was handled above.
            }
            let value = match value {
                Value::None => OsString::new(),
                _ => value_of(option, &mut words)?,
            };
            if option != CLIENT && typed.options.iter().any(|(other, _)| *other == option) {
                return Err(ArgsError::Twice(option));
            }
            typed.options.push((option, value));
        }
        Ok(typed)
    }

    /// The one mode that was given.
    fn mode(&mut self) -> Result<Mode, ArgsError> {
        let given = |option: &&'static str| self.has(option);
        let mut modes = of(Section::Task).map(|option| option.name).filter(given);
        let (first, second) = (modes.next(), modes.next());
        if let (Some(first), Some(second)) = (first, second) {
            return Err(ArgsError::TwoModes(first, second));
        }
        if let (Some(name), Some(mode)) = (&self.name, first) {
            let beside = match self.options.iter().find(|(option, _)| *option == "--server") {
                Some((_, other)) => format!("--server {}", other.to_string_lossy()),
                None => mode.to_owned(),
            };
            return Err(ArgsError::Name { name: name.clone(), beside });
        }
        if let Some(name) = self.name.take() {
            return Ok(Mode::Server(name));
        }
        match first {
            None => Err(ArgsError::NoMode),
            Some("--herd") => Ok(Mode::Herd),
            Some("--check") => Ok(Mode::Check(self.path("--diff"))),
            Some(mode) => self.mode_with_value(mode),
        }
    }

    /// A mode whose option has a value.
    fn mode_with_value(&mut self, mode: &'static str) -> Result<Mode, ArgsError> {
        let mode = match mode {
            "--places-server" => {
                let expected = "an IP address and a port, such as 127.0.0.1:8443";
                let address = self.value(mode, expected, |text| text.parse().ok())?;
                address.map(Mode::PlacesServer)
            }
            "--probe" => self.value(mode, PROBE_URL, ProbeUrl::parse)?.map(Mode::Probe),
            "--make-certificates" => self.path(mode).map(Mode::MakeCertificates),
            "--completion" => {
                self.value(mode, "bash, fish or zsh", Shell::named)?.map(Mode::Completion)
            }
            _ => {
                let name =
                    self.value("--server", "a server's name", |name| Some(name.to_owned()))?;
                name.map(Mode::Server)
            }
        };
        mode.ok_or(ArgsError::NoMode)
    }

    /// The mode that `--dump-state` or `--load-state` makes of one that names a server.
    fn state_mode(&mut self, mode: Mode) -> Result<Mode, ArgsError> {
        let (dumps, loads) = (self.has(DUMP_STATE), self.has(LOAD_STATE));
        match (mode, dumps, loads) {
            (mode, false, false) => Ok(mode),
            (_, true, true) => Err(ArgsError::TwoModes(DUMP_STATE, LOAD_STATE)),
            (Mode::Server(name), true, false) => Ok(Mode::DumpState(name)),
            (Mode::Server(name), false, true) => Ok(Mode::LoadState(name)),
            (_, true, false) => Err(ArgsError::StateAlone(DUMP_STATE)),
            (_, false, true) => Err(ArgsError::StateAlone(LOAD_STATE)),
        }
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(other, _)| *other == option)
    }

    fn take(&mut self, option: &str) -> Option<OsString> {
        let at = self.options.iter().position(|(other, _)| *other == option)?;
        Some(self.options.remove(at).1)
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

    /// The options of `--make-certificates`.
    fn making(&mut self) -> Result<Making, ArgsError> {
        let expected = "a number of days from 1 to 3650";
        let days = self.value("--days", expected, Making::days)?.unwrap_or(DEFAULT_DAYS);
        let renews = self.take("--renew").is_some();
        let mut clients = Vec::new();
        // In the order in which they were typed.
        for (_, id) in self.options.iter().filter(|(option, _)| *option == CLIENT) {
            let expected = "an id of 1 to 256 bytes without white space";
            let value = Some(id.to_string_lossy().into_owned());
            let unusable = ArgsError::Value { option: CLIENT, value, expected };
            clients.push(Making::id(id).ok_or(unusable)?);
        }
        Ok(Making { days, clients, renews })
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

/// The option that this word is, if it is one of those that need nothing else.
fn asks_for(word: &OsStr) -> Option<&'static str> {
    let option = find(word.to_str()?)?;
    (option.section == Section::Ask).then_some(option.name)
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
    match &error {
        lexopt::Error::UnexpectedValue { option, .. } => match find(option) {
            Some(option) => ArgsError::TakesNoValue(option.name),
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

const CLIENT: &str = REPEATABLE;
/// The options that only `--make-certificates` has.
const OF_MAKING: [&str; 3] = ["--days", CLIENT, "--renew"];
/// The longest that programs on phones and in browsers accept, which some clients may be.
const DEFAULT_DAYS: u32 = 397;
const ADMIN: &str = "a port on 127.0.0.1, or an IP address (not a name) and a port";
const PROBE_URL: &str = "an http:// or https:// URL without a user or fragment";
const HTTPS_URL: &str = "an https:// URL without a query, user or fragment";
