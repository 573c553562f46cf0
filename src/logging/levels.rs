//! Which records are written: a level for all targets, and other levels for some of them.

use std::fmt;

use log::LevelFilter;

use super::target;
use crate::errors::did_you_mean;

/// The level of each target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The level of every target that has none of its own.
    pub all: LevelFilter,
    targets: [Option<LevelFilter>; target::ALL.len()],
}

/// The changes of `--log-level`: `debug`, `link=debug`, `info,flood=off`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelOverrides {
    all: Option<LevelFilter>,
    targets: [Option<LevelFilter>; target::ALL.len()],
}

/// Why a text is not a list of levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelsError {
    Level(String),
    Target(String),
    /// A target, or nothing for the level without one.
    Twice(Option<String>),
}

impl Levels {
    /// The level of one target; any other word has the level without a target.
    pub fn of(&self, target: &str) -> LevelFilter {
        index(target).and_then(|index| self.targets[index]).unwrap_or(self.all)
    }

    /// Gives a target a level of its own. Returns false if there is no such target.
    pub fn set(&mut self, target: &str, level: LevelFilter) -> bool {
        let index = index(target);
        if let Some(index) = index {
            self.targets[index] = Some(level);
        }
        index.is_some()
    }

    /// The targets that have a level of their own.
    pub fn of_targets(&self) -> impl Iterator<Item = (&'static str, LevelFilter)> + '_ {
        own(&self.targets)
    }
}

/// INFO for all targets.
impl Default for Levels {
    fn default() -> Levels {
        Levels { all: LevelFilter::Info, targets: Default::default() }
    }
}

impl LevelOverrides {
    /// Reads a list such as `info,link=debug`: at most one level without a target, and at most one for
    /// each target.
    pub fn parse(text: &str) -> Result<LevelOverrides, LevelsError> {
        let mut overrides = LevelOverrides::default();
        for word in text.split(',') {
            let (target, level) = match word.split_once('=') {
                Some((target, level)) => (Some(target.trim()), level.trim()),
                None => (None, word.trim()),
            };
            let place = match target {
                None => &mut overrides.all,
                Some(name) => match index(name) {
                    Some(index) => &mut overrides.targets[index],
                    None => return Err(LevelsError::Target(name.to_owned())),
                },
            };
            let level = level_named(level).ok_or_else(|| LevelsError::Level(level.to_owned()))?;
            if place.replace(level).is_some() {
                return Err(LevelsError::Twice(target.map(str::to_owned)));
            }
        }
        Ok(overrides)
    }

    /// A level without a target replaces all levels; one with a target replaces that target's.
    pub fn apply(&self, levels: &mut Levels) {
        if let Some(all) = self.all {
            *levels = Levels { all, ..Levels::default() };
        }
        for (own, level) in levels.targets.iter_mut().zip(self.targets) {
            *own = level.or(*own);
        }
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        *self == LevelOverrides::default()
    }
}

/// A level by its name, in any case, as loggers elsewhere write it.
pub fn level_named(name: &str) -> Option<LevelFilter> {
    let name = name.to_ascii_lowercase();
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, level)| *level)
}

/// The name that [`level_named`] reads.
pub fn name_of(level: LevelFilter) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == level).map_or("off", |(name, _)| name)
}

fn index(target: &str) -> Option<usize> {
    target::ALL.iter().position(|known| *known == target)
}

fn own(
    targets: &[Option<LevelFilter>; target::ALL.len()],
) -> impl Iterator<Item = (&'static str, LevelFilter)> + '_ {
    target::ALL.iter().zip(targets).filter_map(|(target, level)| Some((*target, (*level)?)))
}

fn write_levels(
    f: &mut fmt::Formatter<'_>,
    all: Option<LevelFilter>,
    targets: &[Option<LevelFilter>; target::ALL.len()],
) -> fmt::Result {
    let all = all.into_iter().map(|level| name_of(level).to_owned());
    let targets = own(targets).map(|(target, level)| format!("{target}={}", name_of(level)));
    f.write_str(&all.chain(targets).collect::<Vec<_>>().join(","))
}

/// As [`LevelOverrides::parse`] reads it.
impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_levels(f, Some(self.all), &self.targets)
    }
}

/// As [`LevelOverrides::parse`] reads it.
impl fmt::Display for LevelOverrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_levels(f, self.all, &self.targets)
    }
}

impl fmt::Display for LevelsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LevelsError::Level(name) => {
                let meant = did_you_mean(name, NAMES.iter().map(|(name, _)| *name));
                write!(f, "unknown level {name:?}{meant} (expected {LEVELS})")
            }
            LevelsError::Target(name) => {
                let meant = did_you_mean(name, target::ALL);
                write!(f, "unknown target {name:?}{meant} (targets: {})", target::ALL.join(", "))
            }
            LevelsError::Twice(Some(target)) => {
                write!(f, "the target {target} was given more than once")
            }
            LevelsError::Twice(None) => f.write_str(
                "more than one level without a target; write target=level for the others",
            ),
        }
    }
}

impl std::error::Error for LevelsError {}

/// The names of the levels, as messages list them.
pub const LEVELS: &str = "off, error, warning, info, debug or trace";

const NAMES: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warning", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_by_target_and_written_as_they_are_read() {
        for (text, shown) in [
            ("info", "info"),
            ("WARNING", "warning"),
            ("info,link=debug", "info,link=debug"),
            ("flood=off , tls = Trace,error", "error,flood=off,tls=trace"),
            ("link=debug", "link=debug"),
        ] {
            let overrides = LevelOverrides::parse(text).expect(text);
            assert_eq!(overrides.to_string(), shown);
            assert_eq!(LevelOverrides::parse(shown), Ok(overrides));
        }
    }

    #[test]
    fn unknown_levels_and_targets_are_refused_with_what_was_probably_meant() {
        for (text, reason) in [
            ("inof", "unknown level \"inof\"; did you mean info? (expected off, "),
            ("", "unknown level \"\" (expected off, "),
            ("info,", "unknown level \"\" (expected off, "),
            ("info,lnik=debug", "unknown target \"lnik\"; did you mean link? (targets: client, "),
            ("herd_mio::herd=debug", "unknown target \"herd_mio::herd\" (targets: client, "),
            ("link=debgu", "unknown level \"debgu\"; did you mean debug? (expected off, "),
            ("link=debug,link=info", "the target link was given more than once"),
            ("info,debug", "more than one level without a target"),
        ] {
            let error = LevelOverrides::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_level_without_a_target_replaces_all_levels_and_others_only_their_target() {
        let mut levels = Levels::default();
        assert!(levels.set("flood", LevelFilter::Warn) && !levels.set("floods", LevelFilter::Warn));
        let mut changed = levels.clone();
        LevelOverrides::parse("link=debug").expect("levels").apply(&mut changed);
        assert_eq!(changed.to_string(), "info,link=debug,flood=warning");
        assert_eq!(changed.of("link"), LevelFilter::Debug);
        assert_eq!(changed.of("rustls::conn"), LevelFilter::Info);
        LevelOverrides::parse("error,link=debug").expect("levels").apply(&mut levels);
        assert_eq!(levels.to_string(), "error,link=debug");
    }
}
