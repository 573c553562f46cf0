//! For zsh: a specification for each option, as `_arguments` reads it.

use super::super::options::{CliOption, OPTIONS, REPEATABLE, Section, Value, of};
use super::brief;

pub(super) fn script() -> String {
    let specifications: Vec<String> = OPTIONS.iter().map(specification).collect();
    SCRIPT.replace("@OPTIONS@", &specifications.join(" \\\n        "))
}

fn specification(option: &CliOption) -> String {
    let name = option.name;
    let text = escaped(brief(option));
    let Some(shown) = option.value.shown() else {
        return match option.short {
            // Nothing else makes sense beside it.
            Some(short) => format!("'(- *)'{{{short},{name}}}'[{text}]'"),
            None => format!("'{}{name}[{text}]'", excluded(option)),
        };
    };
    let action = match option.value {
        Value::File(_) => "_files".to_owned(),
        Value::Folder(_) => "_files -/".to_owned(),
        Value::OneOf(_, words) | Value::Such(_, words) => format!("({})", words.join(" ")),
        Value::Text(_) | Value::None => " ".to_owned(),
    };
    // `=` behind the name: the value may be the next word, or stand behind a `=`.
    format!("'{}{name}=[{text}]:{}:{action}'", excluded(option), escaped(shown))
}

/// What comes before the name. One task excludes the others.
fn excluded(option: &CliOption) -> String {
    if option.name == REPEATABLE {
        return "*".to_owned();
    }
    if option.section != Section::Task {
        return String::new();
    }
    let tasks: Vec<&str> = of(Section::Task).map(|task| task.name).collect();
    format!("({})", tasks.join(" "))
}

/// A text within a specification, and within single quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '\'' => escaped.push_str(r"'\''"),
            '[' | ']' | ':' | '\\' => escaped.extend(['\\', letter]),
            _ => escaped.push(letter),
        }
    }
    escaped
}

const SCRIPT: &str = r#"#compdef herd-mio
# Completion of herd-mio for zsh, as herd-mio --completion zsh prints it.

_herd-mio() {
    _arguments \
        @OPTIONS@
}

# As a file in a folder of $fpath it is called; where it is read by `source`, it is announced.
if [ "${funcstack[1]}" = _herd-mio ]; then
    _herd-mio "$@"
else
    compdef _herd-mio herd-mio
fi
"#;
