//! Why a command line is invalid, and how that is said.

use std::fmt;

use super::options::OPTIONS;
use crate::errors::did_you_mean;
use crate::logging::LevelsError;

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
    /// An option of `--make-certificates` without it.
    MakingAlone(&'static str),
    /// An option that reads or writes a server's database, without the server.
    StateAlone(&'static str),
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
                let meant = did_you_mean(option, OPTIONS.iter().map(|option| option.name));
                write!(f, "unknown option {}{meant} (see --help)", option.escape_debug())
            }
            ArgsError::DiffAlone => f.write_str(
                "--diff needs --check: --check --config NEW --diff OLD prints what changes",
            ),
            ArgsError::MakingAlone(option) => write!(f, "{option} needs --make-certificates DIR"),
            ArgsError::StateAlone(option) => {
                write!(f, "{option} needs --server NAME, whose database it concerns")
            }
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
