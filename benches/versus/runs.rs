//! A run's file: what was measured, when, where, and all raw figures. The files are kept, so that the document can say in
//! how many runs a goal held. A part that is measured by itself takes its place in the file of a run that is there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::figures::Figures;

/// One run, all parts or some of them.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The name of its file, without the ending.
    pub name: String,
    /// The machine, the options, the versions of what was measured.
    pub facts: BTreeMap<String, String>,
    /// Of each part, when it was measured and how busy the machine was.
    pub parts: BTreeMap<String, String>,
    pub figures: Figures,
}

impl Run {
    pub fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("unknown", String::as_str)
    }

    fn read(path: &Path) -> Result<Run, Failure> {
        let text = fs::read_to_string(path)?;
        let bad = |what: &str| format!("{}: {what}", path.display());
        let table: toml::Table = text.parse().map_err(|error| bad(&format!("{error}")))?;
        let words = |name: &str| -> BTreeMap<String, String> {
            let found = table.get(name).and_then(toml::Value::as_table).into_iter().flatten();
            found.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.into()))).collect()
        };
        let mut figures = Figures::default();
        let found = table.get("figures").and_then(toml::Value::as_table);
        for (name, values) in found.ok_or_else(|| bad("no figures"))? {
            let values = values.as_array().ok_or_else(|| bad(name))?;
            let number = |value: &toml::Value| {
                value.as_float().or(value.as_integer().map(|number| number as f64))
            };
            let numbers: Option<Vec<f64>> = values.iter().map(number).collect();
            figures.set(name, numbers.ok_or_else(|| bad(name))?);
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Run { name, facts: words("facts"), parts: words("parts"), figures })
    }

    /// Writes the file; in one that is there what was measured anew is replaced.
    pub fn write(self, folder: &Path) -> Result<PathBuf, Failure> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.toml", self.name));
        let run = if path.exists() {
            let mut older = Run::read(&path)?;
            older.facts.extend(self.facts);
            older.parts.extend(self.parts);
            older.figures.take(self.figures);
            older
        } else {
            self
        };
        fs::write(&path, run.text())?;
        Ok(path)
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "# Written by `cargo bench --bench versus`: one run, a line for each figure, a value for each round.\n",
        );
        for (title, words) in [("facts", &self.facts), ("parts", &self.parts)] {
            _ = writeln!(text, "\n[{title}]");
            for (name, word) in words {
                _ = writeln!(text, "{name:?} = {word:?}");
            }
        }
        text.push_str("\n[figures]\n");
        for (name, values) in self.figures.iter() {
            let values: Vec<String> = values.iter().map(|value| short(*value)).collect();
            _ = writeln!(text, "{name:?} = [{}]", values.join(", "));
        }
        text
    }
}

/// All runs that are kept, by name.
pub fn all(folder: &Path) -> Result<Vec<Run>, Failure> {
    let mut paths: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    paths.iter().map(|path| Run::read(path)).collect()
}

/// The first name of this day that no file has.
pub fn free_name(folder: &Path, date: &str) -> String {
    let names = (1..).map(|number| format!("{date}-{number}"));
    let is_free = |name: &String| !folder.join(format!("{name}.toml")).exists();
    names.into_iter().find(is_free).unwrap_or_default()
}

/// Five digits, which is more than any of these figures deserves.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let above = value.abs().log10().floor() as i32 + 1;
    if above >= DIGITS {
        let unit = 10f64.powi(above - DIGITS);
        return format!("{:.0}", (value / unit).round() * unit);
    }
    let text = format!("{value:.*}", (DIGITS - above) as usize);
    let text = if text.contains('.') { text.trim_end_matches('0') } else { &text };
    text.trim_end_matches('.').to_owned()
}

const DIGITS: i32 = 5;
