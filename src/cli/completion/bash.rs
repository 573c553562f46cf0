//! For bash. Before the function runs, bash splits a word at each `=`, so `--name=value` comes as three words.

use super::super::options::{CliOption, OPTIONS, REPEATABLE, Value};
use super::names;

pub(super) fn script() -> String {
    let all = OPTIONS.iter().flat_map(|option| [Some(option.name), option.short]);
    let all: Vec<&str> = all.flatten().collect();
    let words: String = OPTIONS.iter().filter_map(words_of).collect();
    let files = pattern(names(OPTIONS, |value| matches!(value, Value::File(_))));
    let folders = pattern(names(OPTIONS, |value| matches!(value, Value::Folder(_))));
    let texts = pattern(names(OPTIONS, |value| matches!(value, Value::Text(_))));
    SCRIPT
        .replace("@ALL@", &all.join(" "))
        .replace("@WORDS@", &words)
        .replace("@REPEATABLE@", REPEATABLE)
        .replace("@FILES@", &files)
        .replace("@FOLDERS@", &folders)
        .replace("@TEXTS@", &texts)
}

/// The case of an option whose values are known.
fn words_of(option: &CliOption) -> Option<String> {
    let words = option.value.words();
    let case = || format!("        {}) _herd_mio_reply -W '{}' ;;\n", option.name, words.join(" "));
    (!words.is_empty()).then(case)
}

/// The pattern of a case.
fn pattern(names: Vec<&str>) -> String {
    match names.is_empty() {
        true => "''".to_owned(), // No word is empty where a value can follow.
        false => names.join(" | "),
    }
}

const SCRIPT: &str = r#"# Completion of herd-mio for bash, as herd-mio --completion bash prints it.

_herd_mio_reply() {
    mapfile -t COMPREPLY < <(compgen "$@" -- "$word")
}

_herd_mio() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} known option
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]] && ((COMP_CWORD > 2)); then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    COMPREPLY=()
    case $before in
@WORDS@        @FILES@)
            compopt -o filenames 2>/dev/null
            _herd_mio_reply -f ;;
        @FOLDERS@)
            compopt -o filenames 2>/dev/null
            _herd_mio_reply -d ;;
        @TEXTS@) ;;
        *)
            known=" @ALL@ "
            # Each option may be given once, but for one.
            for option in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
                [[ $option == @REPEATABLE@ ]] || known=${known/" $option "/ }
            done
            _herd_mio_reply -W "$known" ;;
    esac
}

complete -F _herd_mio herd-mio
"#;
