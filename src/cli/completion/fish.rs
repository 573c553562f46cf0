//! For fish: a command for each option.

use super::super::options::{CliOption, OPTIONS, Value};
use super::brief;

pub(super) fn script() -> String {
    let lines = OPTIONS.iter().map(line);
    TITLE.to_owned() + &lines.collect::<String>()
}

fn line(option: &CliOption) -> String {
    let long = option.name.trim_start_matches('-');
    let short = option.short.map(|short| format!(" -s {}", short.trim_start_matches('-')));
    let value = match option.value {
        Value::None => String::new(),
        Value::OneOf(_, words) | Value::Such(_, words) => format!(" -x -a '{}'", words.join(" ")),
        Value::File(_) => " -r -F".to_owned(),
        Value::Folder(_) => " -x -a '(__fish_complete_directories)'".to_owned(),
        Value::Text(_) => " -x".to_owned(),
    };
    let text = brief(option).replace('\\', r"\\").replace('\'', r"\'");
    format!("complete -c herd-mio{} -l {long}{value} -d '{text}'\n", short.unwrap_or_default())
}

const TITLE: &str = "\
# Completion of herd-mio for fish, as herd-mio --completion fish prints it.

complete -c herd-mio -f
";
