//! Claim: the completion that `--completion` prints proposes in each shell the options, their values and files, and
//! nothing that the program refuses.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::needs::{Missing, Outcome, tool};
use crate::common::program::herd_mio;

/// A folder with the script for a shell, and an empty `herd files` with one file in it.
struct Scripts {
    folder: TempDir,
}

impl Scripts {
    fn of(shell: &str) -> Scripts {
        let folder = tempfile::tempdir().expect("a folder");
        let printed = herd_mio(&["--completion", shell]);
        assert!(printed.status.success(), "{shell}");
        fs::write(folder.path().join("script"), printed.stdout).expect("a file");
        fs::create_dir(folder.path().join("herd files")).expect("a folder");
        fs::write(folder.path().join("herd.toml"), "").expect("a file");
        Scripts { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("script")
    }

    /// What a program prints that runs in the folder.
    fn output(&self, command: &mut Command) -> String {
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("HOME", self.folder.path()).env("XDG_CONFIG_HOME", self.folder.path());
        let output = command.output().expect("the shell runs");
        let (said, failed) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "{failed}");
        assert_eq!(failed, "");
        String::from_utf8(said).expect("text")
    }
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

pub fn each_shell_reads_its_script() -> Outcome {
    for shell in ["bash", "fish", "zsh"] {
        let scripts = Scripts::of(shell);
        assert_eq!(scripts.output(tool(shell)?.arg("-n").arg(scripts.path())), "", "{shell}");
    }
    Ok(())
}

/// What bash proposes for the last of these words, as its own word splitting gives them.
fn bash(scripts: &Scripts, words: &[&str]) -> Result<String, Missing> {
    let script = "source ./script; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _herd_mio; \
                  [ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' \"${COMPREPLY[@]}\"";
    Ok(scripts.output(tool("bash")?.args(["--norc", "-c", script, "bash", "herd-mio"]).args(words)))
}

pub fn bash_proposes_options_and_their_values() -> Outcome {
    let scripts = Scripts::of("bash");
    for (words, proposed) in [
        (&["--dia"] as &[&str], &["--dialect"] as &[&str]),
        (&["--places-k"], &["--places-key", "--places-key-file"]),
        (&["--herd", "--her"], &[]),                     // It was given.
        (&["--client", "kiwi", "--cli"], &["--client"]), // It may be repeated.
        (&["-"], &["-V", "-h"]),
        (&["--dialect", ""], &["course", "report"]),
        (&["--dialect", "c"], &["course"]),
        (&["--dialect", "="], &["course", "report"]),
        (&["--dialect", "=", "r"], &["report"]),
        (&["--herd", "--places", "google-"], &["google-new"]),
        (&["--check", "--config", "herd"], &["herd files", "herd.toml"]),
        (&["--check", "--config", "=", "herd."], &["herd.toml"]),
        (&["--herd", "--log-dir", "herd"], &["herd files"]),
        (&["--server", ""], &[]),
        (&["*"], &[]),
    ] {
        let said = bash(&scripts, words)?;
        let mut said = sorted(&said);
        if words == ["-"] {
            said.retain(|word| !word.starts_with("--"));
        }
        assert_eq!(said, proposed, "{words:?}");
    }
    Ok(())
}

pub fn fish_proposes_options_and_their_values() -> Outcome {
    let scripts = Scripts::of("fish");
    for (typed, proposed) in [
        ("--dia", &["--dialect"] as &[&str]),
        ("--dialect ", &["course", "report"]),
        ("--dialect=", &["--dialect=course", "--dialect=report"]),
        ("--places google-", &["google-new"]),
        ("--check --config herd.", &["herd.toml"]),
        ("--herd --log-dir her", &["herd files/"]),
    ] {
        let script = format!("source script; complete -C 'herd-mio {typed}'");
        let said = scripts.output(tool("fish")?.args(["--no-config", "-c", &script]));
        let words: Vec<&str> =
            sorted(&said).iter().map(|line| line.split('\t').next().unwrap_or(line)).collect();
        assert_eq!(words, proposed, "{typed}");
    }
    Ok(())
}

/// zsh completes only at a terminal, so a zsh in a pseudo-terminal is typed to.
pub fn zsh_completes_options_and_their_values() -> Outcome {
    let scripts = Scripts::of("zsh");
    let cases = [
        ("herd-mio --dia", "herd-mio --dialect="),
        ("herd-mio --dialect c", "herd-mio --dialect course "),
        ("herd-mio --dialect=c", "herd-mio --dialect=course "),
        ("herd-mio --config herd.", "herd-mio --config herd.toml "),
        ("herd-mio --log-dir he", "herd-mio --log-dir herd\\ files/"),
        ("herd-mio --client kiwi --cli", "herd-mio --client kiwi --client="),
        ("herd-mio --herd --ser", "herd-mio --herd --ser"), // One task excludes the others.
    ];
    for how in ["as a file that is read", "as a function in a folder of $fpath"] {
        let mut zsh = tool("timeout")?;
        tool("zsh")?;
        let typed = cases.iter().map(|(typed, _)| typed);
        // A zsh that does not answer is not waited for.
        zsh.args(["60", "zsh", "-f", "-c", ZSH, "zsh", how]).args(typed).env("TERM", "dumb");
        let said = scripts.output(&mut zsh);
        let said: Vec<&str> = said.lines().collect();
        assert_eq!(said, cases.map(|(_, completed)| completed), "{how}");
    }
    Ok(())
}

/// Types each word and a tab into a zsh, and prints what stands in its line then.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell "zsh -f -i"
zpty -w shell "PS1='' PROMPT2=''; autoload -Uz compinit"
if [[ $1 == *function* ]]; then
    mkdir functions && cp script functions/_herd-mio
    zpty -w shell 'fpath=($PWD/functions $fpath); compinit -D -u'
else
    zpty -w shell 'compinit -D -u; source ./script'
fi
zpty -w shell 'probe() { zle expand-or-complete; print -r -- "<<$BUFFER>>"; zle kill-whole-line }'
zpty -w shell 'zle -N probe; bindkey "^T" probe; print ready-$((1 + 1))'
zpty -r shell said '*ready-2*'
shift
for typed; do
    zpty -w -n shell "$typed"$'\C-t'
    zpty -r shell said '*<<*>>*'
    print -r -- "${${said##*<<}%%>>*}"
done
zpty -d shell
"#;
