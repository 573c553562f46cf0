//! Completion of the options in shells: `--completion bash`, `fish` or `zsh` prints a script for that shell, made of the
//! table of options. A script proposes options, their values and files; it never runs the program.

mod bash;
mod fish;
mod zsh;

use super::options::{CliOption, Value};

/// A shell that has a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Shell {
    /// As on the command line.
    pub fn named(name: &str) -> Option<Shell> {
        match name {
            "bash" => Some(Shell::Bash),
            "fish" => Some(Shell::Fish),
            "zsh" => Some(Shell::Zsh),
            _ => None,
        }
    }
}

/// What `--completion` prints.
pub fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash::script(),
        Shell::Fish => fish::script(),
        Shell::Zsh => zsh::script(),
    }
}

/// The first part of an option's text, which shells show beside it.
fn brief(option: &CliOption) -> &'static str {
    let end = option.text.find([';', '[']).unwrap_or(option.text.len());
    option.text[..end].trim_end()
}

/// The names of the options whose values are of a kind.
fn names(options: &[CliOption], is: fn(Value) -> bool) -> Vec<&'static str> {
    let chosen = options.iter().filter(|option| is(option.value));
    chosen.map(|option| option.name).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::args::Args;
    use super::super::options::{OPTIONS, Section};

    /// What a shell proposes, the parser accepts.
    #[test]
    fn each_proposed_word_is_a_valid_value() {
        for option in OPTIONS {
            for word in option.value.words() {
                let mut words = vec![option.name, word];
                if option.section != Section::Task {
                    words.push("--check");
                }
                let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
                assert!(Args::parse(words).is_ok(), "{} {word}", option.name);
            }
        }
    }
}
