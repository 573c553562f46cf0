//! Completion of the options in shells: `--completion bash`, `fish` or `zsh` prints a script for it, made of the table of
//! options.

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
pub fn script(_shell: Shell) -> String {
    String::new()
}
