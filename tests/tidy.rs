//! Claim: the borders between the layers hold, files and functions stay short, nothing in `src/` can panic without its
//! reason beside it, and what the docs name exists.
//!
//! These are searches in the text of formatted code, not a compiler: they take comments off, leave `#[cfg(test)]` out
//! where a rule is about what runs, and find a function's end by its indentation.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use memchr::memmem;
use regex::Regex;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
/// What is read most often is shorter still, except for files of tests.
const SHORTER: [&str; 2] = ["src/event_loop", "src/server"];
const SHORTER_FILE_LINES: usize = 399;
const SHORTER_FUNCTION_LINES: usize = 59;

/// What each folder or file of `src/` may name of the others, those that stand on others below them.
const LAYERS: [(&str, &[&str]); 21] = [
    ("addresses", &[]),
    ("clock", &[]),
    ("limits", &["addresses"]),
    ("errors", &[]),
    ("protocol", &["clock"]),
    ("http", &["limits"]),
    ("nats", &["limits"]),
    ("herd", &["nats", "protocol", "clock", "limits"]),
    ("places", &["http", "limits"]),
    ("application", &["clock"]),
    ("tls", &["application"]),
    ("event_loop", &["application", "tls", "addresses", "clock"]),
    ("logging", &["limits", "errors"]),
    ("files", &["limits"]),
    (
        "config",
        &[
            "nats",
            "application",
            "protocol",
            "places",
            "tls",
            "logging",
            "addresses",
            "limits",
            "errors",
            "files",
        ],
    ),
    ("state", &["herd", "protocol", "logging", "limits", "errors", "files"]),
    ("connection_records", &["application", "config", "logging", "limits", "errors"]),
    ("server", SERVER),
    (
        "places_server",
        &["connection_records", "application", "places", "http", "clock", "limits", "logging"],
    ),
    ("node", NODE),
    ("cli", CLI),
];
const SERVER: &[&str] = &[
    "connection_records",
    "tls",
    "application",
    "herd",
    "nats",
    "places",
    "http",
    "protocol",
    "addresses",
    "clock",
    "limits",
    "errors",
    "config",
    "logging",
];
const NODE: &[&str] = &[
    "state",
    "herd",
    "nats",
    "server",
    "places_server",
    "event_loop",
    "tls",
    "config",
    "files",
    "logging",
    "application",
    "places",
    "http",
    "protocol",
    "clock",
    "limits",
    "errors",
];
const CLI: &[&str] =
    &["node", "config", "tls", "logging", "places", "protocol", "files", "limits", "errors"];

/// The folders without side effects: no socket, no clock, no thread, no file, no log.
const PURE: [&str; 8] = [
    "src/protocol",
    "src/http",
    "src/nats",
    "src/herd",
    "src/places",
    "src/application",
    "src/addresses",
    "src/clock",
];

/// First words of names in the docs that are others' to keep.
const FOREIGN: [&str; 14] = [
    "asyncio",
    "std",
    "core",
    "mio",
    "tokio",
    "libc",
    "io",
    "net",
    "log",
    "rustix",
    "socket2",
    "serde_json",
    "signal_hook",
    "redis",
];

struct Source {
    /// From the project's folder, with `/`.
    path: String,
    lines: Vec<String>,
    /// For each line, whether it is compiled for tests only.
    of_tests: Vec<bool>,
}

/// A folder names those of its row and no others, and each row names only rows above it: so there is no circle
/// between folders, nor between files of different folders. A new folder is refused until it has a row.
#[test]
fn each_folder_names_only_what_its_row_allows() {
    for (at, (folder, may_name)) in LAYERS.iter().enumerate() {
        let path = project().join("src").join(folder);
        assert!(path.is_dir() || path.with_extension("rs").is_file(), "{folder} has a row only");
        let above: Vec<&str> = LAYERS[..at].iter().map(|(name, _)| *name).collect();
        for name in *may_name {
            assert!(above.contains(name), "{folder} may name {name}, which has no row above it");
        }
    }
    let named = pattern(r"\b(?:crate|herd_mio)::(?:(\w+)|\{([^;]*?)\};)");
    let first_words = pattern(r"(?:^|,)\s*(\w+)");
    let mut found = BTreeSet::new();
    for source in sources() {
        let top = source.path.trim_start_matches("src/").split('/').next().unwrap_or_default();
        let top = top.trim_end_matches(".rs");
        if ["main", "lib"].contains(&top) {
            continue;
        }
        let Some((_, may_name)) = LAYERS.iter().find(|(folder, _)| *folder == top) else {
            found.insert(format!("{} is in no row of LAYERS", source.path));
            continue;
        };
        let text = source.code(Scope::WithoutTests);
        for place in named.captures_iter(&text) {
            let group = place.get(1).or(place.get(2)).map_or("", |group| group.as_str());
            for word in first_words.captures_iter(group) {
                if &word[1] != top && !may_name.contains(&&word[1]) {
                    found.insert(format!("{} names {}", source.path, &word[1]));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// What the crates of a folder are for, no other folder does.
#[test]
fn mio_is_named_by_the_event_loop_alone_and_rustls_by_tls() {
    let only = [
        ("event_loop", r"\bmio::|\buse mio\b|\bsignal_hook_mio\b"),
        ("tls", r"\brustls::|\buse rustls\b|\bwebpki\w*::"),
    ];
    for (folder, names) in only {
        refuse(
            &format!("what only {folder} names"),
            |source| !source.is_in(&format!("src/{folder}")),
            &pattern(names),
            Scope::WithoutTests,
        );
    }
}

/// The loop can be lifted out: it does not know what runs on it, nor do its comments.
#[test]
fn the_event_loop_and_its_border_know_nothing_of_what_runs_on_them() {
    let words = pattern("Role|places|herd|neighbour|protocol|IAMAT|WHATSAT");
    let mut found = String::new();
    for source in sources() {
        if source.is_in("src/event_loop") || source.is_in("src/application") {
            for (at, line) in source.lines.iter().enumerate() {
                if let Some(word) = words.find(line) {
                    _ = writeln!(found, "{}:{}: {}", source.path, at + 1, word.as_str());
                }
            }
        }
    }
    assert!(found.is_empty(), "{found}");
}

#[test]
fn the_pure_layers_name_no_socket_clock_thread_file_or_log() {
    let is_pure = |source: &Source| PURE.iter().any(|folder| source.is_in(folder));
    let forbidden = pattern(
        r"\bstd::(fs|thread|process)\b|\bstd::\{[^}]*\b(fs|thread|net|process)\b|\bInstant::now\b|\bSystemTime\b|\b(use )?log::(trace|debug|info|warn|error|log|\{)|\buse log\b|\b(trace|debug|info|warn|error)!\(",
    );
    refuse("a pure layer names what is impure", is_pure, &forbidden, Scope::WithoutTests);
    // Addresses as values are no sockets.
    let sockets = pattern(
        r"\bstd::net::[\w:{ ,]*\b(Tcp\w+|Udp\w+|ToSocketAddrs|Shutdown|Incoming)\b|\bstd::net::\*",
    );
    refuse("a pure layer names a socket", is_pure, &sockets, Scope::WithoutTests);
}

#[test]
fn sessions_open_no_file_and_start_no_thread() {
    let forbidden = pattern(
        r"\bstd::(fs|thread)\b|\bstd::\{[^}]*\b(fs|thread)\b|\bFile::(open|create)\b|\bTcp\w+|\bToSocketAddrs\b",
    );
    refuse(
        "in a session",
        |source| source.is_in("src/server") || source.is_in("src/places_server"),
        &forbidden,
        Scope::WithoutTests,
    );
}

#[test]
fn there_is_no_unsafe_code() {
    refuse("unsafe", |_| true, &pattern(r"\bunsafe\b"), Scope::WithTests);
    let lib = std::fs::read_to_string(project().join("src/lib.rs")).expect("src/lib.rs");
    assert!(lib.contains("#![forbid(unsafe_code)]"), "src/lib.rs says #![forbid(unsafe_code)]");
}

#[test]
fn files_and_functions_stay_short() {
    let mut found = String::new();
    for source in sources() {
        let is_test = source.of_tests.iter().all(|of_tests| *of_tests);
        let is_shorter = !is_test && SHORTER.iter().any(|folder| source.is_in(folder));
        let (file_lines, function_lines) = match is_shorter {
            true => (SHORTER_FILE_LINES, SHORTER_FUNCTION_LINES),
            false => (FILE_LINES, FUNCTION_LINES),
        };
        let count = source.lines.len();
        if count > file_lines {
            _ = writeln!(found, "{}: {count} lines, {file_lines} are the most", source.path);
        }
        for (line, name, count) in functions(&source.lines) {
            if count > function_lines {
                _ = writeln!(
                    found,
                    "{}:{line}: {name} has {count} lines, {function_lines} are the most",
                    source.path
                );
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn the_examples_of_the_event_loop_stay_short_and_say_how_to_try_them() {
    for (name, most) in [("echo", 40), ("chat", 80), ("hello", 100), ("proxy", 130)] {
        let path = project().join(format!("examples/{name}.rs"));
        let text = std::fs::read_to_string(&path).expect("an example");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() <= most, "{name} has {} lines, {most} are allowed", lines.len());
        let says_how = lines[0].starts_with("//! ")
            && lines[1].starts_with(&format!("//! Try it: `cargo run --example {name} "));
        assert!(says_how, "{name} begins with {:?}", &lines[..2]);
    }
}

#[test]
fn panics_have_their_reason_on_the_line_above() {
    let mut found = String::new();
    for source in sources() {
        for line in unexplained_panics(&source) {
            _ = writeln!(found, "{}:{}: {}", source.path, line + 1, source.lines[line].trim());
        }
    }
    assert!(found.is_empty(), "without a comment that shows why it can't fail:\n{found}");
}

/// A client or a neighbour may cause a warning at will, and fill the disk. One that they cannot cause has its reason.
#[test]
fn warnings_are_rate_limited_or_have_a_reason_on_the_line_above() {
    let direct = pattern(r"\b(log::)?(warn|error)!\(");
    let mut found = String::new();
    for source in sources() {
        let lines = source.lines.iter().enumerate();
        for (at, line) in lines.filter(|(at, _)| !source.of_tests[*at]) {
            let above = at.checked_sub(1).map_or("", |above| source.lines[above].trim());
            if direct.is_match(code_of(line)) && !above.starts_with("// Not limited: ") {
                _ = writeln!(found, "{}:{}: {}", source.path, at + 1, line.trim());
            }
        }
    }
    assert!(found.is_empty(), "neither by `rate_limit::warn` nor `// Not limited: …`:\n{found}");
}

/// Names of events are an interface: `docs/log.md` lists each that the program has, and no other one.
#[test]
fn the_documents_list_the_events_of_the_log() {
    let table = std::fs::read_to_string(project().join("docs/log.md")).expect("docs/log.md");
    let (_, table) = table.split_once("\n| event |").expect("a table of events");
    let listed: BTreeSet<&str> = pattern(r"(?m)^\| `([a-z_]+)` \|")
        .captures_iter(table)
        .filter_map(|it| Some(it.get(1)?.as_str()))
        .collect();
    let (mut named, mut quoted) = (BTreeSet::new(), BTreeSet::new());
    for source in sources() {
        let of_program =
            source.lines.iter().zip(&source.of_tests).filter(|(_, of_test)| !**of_test);
        let text: String = of_program.map(|(line, _)| format!("{line}\n")).collect();
        let names = |text: &str, form: &str| -> Vec<String> {
            pattern(form).captures_iter(text).map(|name| name[1].to_owned()).collect()
        };
        named.extend(names(&text, r#"\bevent(?: =|:) "([a-z_]+)""#));
        for function in text.split("fn event(").skip(1) {
            let body = function.split("\n    }\n").next().unwrap_or_default();
            named.extend(names(body, r#""([a-z_]+)""#));
        }
        quoted.extend(names(&text, r#""([a-z_]+)""#));
    }
    let missing: Vec<_> = named.iter().filter(|name| !listed.contains(&name[..])).collect();
    assert!(named.len() > 40 && missing.is_empty(), "not in docs/log.md: {missing:?}");
    let unknown: Vec<_> = listed.iter().filter(|name| !quoted.contains(**name)).collect();
    assert!(unknown.is_empty(), "in docs/log.md, and nowhere in src/: {unknown:?}");
}

#[test]
fn each_test_file_begins_with_its_claim() {
    let mut found = String::new();
    for entry in std::fs::read_dir(project().join("tests")).expect("tests/").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a readable test");
            if !text.starts_with("//! Claim: ") {
                _ = writeln!(found, "{}", path.display());
            }
        }
    }
    assert!(found.is_empty(), "no `//! Claim: …` in the first line of:\n{found}");
}

/// A test that returns early, or that says itself that it did nothing, is shown as passed. What needs something that may
/// be missing stands in `tests/with_tools/`, and ends there with `?`.
#[test]
fn no_test_passes_by_doing_nothing() {
    let mut found = String::new();
    let mut paths = Vec::new();
    collect(&project().join("tests"), "rs", &mut paths);
    for path in paths.iter().filter(|path| !path.ends_with("tidy.rs")) {
        let text = std::fs::read_to_string(path).expect("a readable test");
        for (line, what) in idle_tests(&text) {
            _ = writeln!(found, "{}:{line}: {what}", relative(path));
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// `cargo test` runs tests by their names, and doc tests last; `with_tools` lists at its end what was ignored.
#[test]
fn ignored_tests_are_listed_at_the_end() {
    let last = std::fs::read_dir(project().join("tests"))
        .expect("tests/")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").is_file()
        })
        .max();
    assert_eq!(last, Some(project().join("tests/with_tools")), "its name is the last one");
    let fence = pattern(r"^\s*//[/!]\s*```(\w*)");
    let mut found = String::new();
    for source in sources() {
        let fences = source.lines.iter().enumerate();
        let fences = fences.filter_map(|(at, line)| Some((at + 1, fence.captures(line)?)));
        for (nth, (line, fence)) in fences.enumerate() {
            if nth.is_multiple_of(2) && &fence[1] != "text" {
                _ = writeln!(found, "{}:{line}: is not `text`", source.path);
            }
        }
    }
    assert!(found.is_empty(), "examples in docs are not run (Cargo.toml, doctest):\n{found}");
}

#[test]
fn ci_installs_each_tool_that_a_test_needs() {
    let read = |path: &str| std::fs::read_to_string(project().join(path)).expect("a readable file");
    let pairs = |text: &str, each: &str| -> BTreeSet<String> {
        let found = pattern(each);
        found.captures_iter(text).map(|pair| format!("{}:{}", &pair[1], &pair[2])).collect()
    };
    let needs = read("tests/common/needs.rs");
    let ci = read(".ci/tools");
    let tools = ci.split("\ntools=(").nth(1).and_then(|rest| rest.split(')').next());
    let needed = pairs(&needs, r#"(?m)^    \("([\w-]+)", "([\w-]+)"\),$"#);
    let installed = pairs(tools.expect("a list of tools"), r"([\w-]+):([\w-]+)");
    assert!(!needed.is_empty() && needed == installed, "{needed:?} and {installed:?}");
}

#[test]
fn docs_name_existing_items() {
    let code = Code::read();
    let mut found = String::new();
    for path in documents() {
        let text = std::fs::read_to_string(project().join(&path)).expect("a readable document");
        for (line, name) in code_spans(&text) {
            if let Some(missing) = code.missing(&name) {
                _ = writeln!(found, "{path}:{line}: `{name}`: no {missing}");
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// `tests/README.md` lists each file and folder of `tests/` and nothing else.
#[test]
fn the_list_of_tests_names_each_file_and_each_name_exists() {
    let list = std::fs::read_to_string(project().join("tests/README.md")).expect("the list");
    let listed = pattern(r"(?m)^\| `([\w./-]+)` \|");
    let listed: BTreeSet<String> = listed.captures_iter(&list).map(|it| it[1].to_owned()).collect();
    let entries = std::fs::read_dir(project().join("tests")).expect("tests/").flatten();
    let there: BTreeSet<String> = entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() { format!("{name}/") } else { name }
        })
        .filter(|name| name != "README.md")
        .collect();
    let missing: Vec<&String> = there.difference(&listed).collect();
    let gone: Vec<&String> = listed.difference(&there).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not listed: {missing:?}; gone: {gone:?}");
}

/// Of links to files of the project: the file exists, and so does the heading or anchor behind `#`.
#[test]
fn links_in_the_docs_lead_somewhere() {
    let link = pattern(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)");
    let mut found = String::new();
    for path in documents() {
        let document = project().join(&path);
        let text = std::fs::read_to_string(&document).expect("a readable document");
        for to in link.captures_iter(&text).filter(|to| !to[1].contains(':')) {
            let target = match &to[1] {
                "" => document.clone(),
                name => document.parent().expect("a folder").join(name),
            };
            let is_there = match to.get(2) {
                None => target.exists(),
                Some(anchor) => std::fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).contains(anchor.as_str())),
            };
            if !is_there {
                _ = writeln!(found, "{path}: {}", &to[0]);
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// What a link into this page may name: its anchors, and its headings as forges write them.
fn anchors(text: &str) -> BTreeSet<String> {
    let written = pattern(r#"<a id="([\w-]+)">"#);
    let heading = pattern(r"(?m)^#+ (.+)$");
    let of_heading = |title: &str| -> String {
        let kept = title.to_lowercase();
        let kept = kept.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        kept.map(|it| if it == ' ' { '-' } else { it }).collect()
    };
    let written = written.captures_iter(text).map(|it| it[1].to_owned());
    written.chain(heading.captures_iter(text).map(|it| of_heading(&it[1]))).collect()
}

/// Each heading of the second part of docs/the-loop.md is a trap, and `tests/mutations.sh` runs the patches.
#[test]
fn each_trap_has_a_patch_and_each_patch_a_trap_and_a_test() {
    let page = std::fs::read_to_string(project().join("docs/the-loop.md")).expect("the page");
    let (_, traps) = page.split_once("\n## The traps\n").expect("its second part");
    let traps: Vec<&str> = traps.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut paths = Vec::new();
    collect(&project().join("tests/loop/mutations"), "patch", &mut paths);
    let mut found = String::new();
    let mut patched = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable patch");
        let mut lines = text.lines();
        let trap = lines.next().and_then(|line| line.strip_prefix("Trap: ")).unwrap_or_default();
        let test = lines.next().and_then(|line| line.strip_prefix("Test: ")).unwrap_or_default();
        // A trap that the page does not name is explained in the patch itself.
        if !traps.contains(&trap) && !trap.starts_with("- : ") {
            _ = writeln!(found, "{}: no trap of the page: {trap:?}", path.display());
        }
        if !is_a_test(test) {
            _ = writeln!(found, "{}: no test: {test:?}", path.display());
        }
        patched.push(trap.to_owned());
    }
    for trap in traps.iter().filter(|trap| !patched.iter().any(|patched| patched == *trap)) {
        _ = writeln!(found, "no patch for {trap:?}");
    }
    assert!(found.is_empty(), "\n{found}");
}

/// The scripts that apply them take minutes to say so.
#[test]
fn each_patch_of_the_mutations_still_applies() {
    let mut paths = Vec::new();
    for folder in ["tests/loop/mutations", "tests/simulation/mutations"] {
        collect(&project().join(folder), "patch", &mut paths);
    }
    let mut found = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable patch");
        for file in text.split("\n+++ b/").skip(1) {
            let (name, changes) = file.split_once('\n').unwrap_or((file, ""));
            let source = std::fs::read_to_string(project().join(name)).unwrap_or_default();
            for hunk in changes.split("\n--- a/").next().unwrap_or("").split("@@ -").skip(1) {
                let before: Vec<&str> =
                    hunk.lines().skip(1).filter_map(|line| line.strip_prefix([' ', '-'])).collect();
                if !source.contains(&before.join("\n")) {
                    _ = writeln!(found, "{}: not in {name}: @@ -{hunk}", path.display());
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// Whether this names a file in `tests/`, or `lib`, and a test of it.
fn is_a_test(words: &str) -> bool {
    let Some((file, path)) = words.split_once(' ') else {
        return false;
    };
    let (modules, name) = path.rsplit_once("::").unwrap_or(("", path));
    let modules = modules.trim_end_matches("tests").trim_end_matches("::").replace("::", "/");
    let candidates = match file {
        "lib" => vec![
            format!("src/{modules}.rs"),
            format!("src/{modules}/mod.rs"),
            format!("src/{modules}/tests.rs"),
        ],
        file => vec![format!("tests/{file}.rs"), format!("tests/{file}/{modules}.rs")],
    };
    let test = pattern(&format!(r"(?m)^ *(pub )?fn {name}\("));
    let texts = candidates.iter().map(|path| std::fs::read_to_string(project().join(path)));
    texts.flatten().any(|text| test.is_match(&text))
}

#[test]
fn the_searches_find_what_they_look_for() {
    let text = "impl A {\n    fn one(&self) {}\n\n    pub fn two(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n}\n\ntrait B {\n    fn three(\n        &self,\n    );\n    fn four();\n}\n";
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let found: Vec<(String, usize)> =
        functions(&lines).into_iter().map(|(_, name, count)| (name, count)).collect();
    let expected = [("one", 1), ("two", 5), ("three", 3), ("four", 1)];
    assert_eq!(found, expected.map(|(name, count)| (name.to_owned(), count)));

    let text = "fn a() {\n    b.unwrap();\n    // It is never empty.\n    c.expect(\"c\");\n    // Nor this.\n    d\n        .e()\n        .unwrap();\n    panic!(\"no\"); // at the end is not above\n}\n\n#[cfg(test)]\nmod tests {\n    fn f() { g.unwrap() }\n}\n";
    let source = Source::of("src/x.rs".to_owned(), text, false);
    assert_eq!(unexplained_panics(&source), [1, 8]);
    assert_eq!(source.of_tests.iter().filter(|of_tests| **of_tests).count(), 4);

    let text = "#[test]\nfn a() {\n    let Some(b) = c() else { return };\n    return;\n}\n\nfn d() {\n    return;\n}\n\n#[test]\nfn e() {\n    let f = || return 1;\n    println!(\"skipped: no g\");\n    if let Ok(nc) = netcat() {}\n}\n\npub fn h() -> Outcome {\n    return Ok(());\n}\n";
    let lines: Vec<usize> = idle_tests(text).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [3, 4, 14, 15, 19]);

    let spans = code_spans("a `b` and `c()`\n```\n`not this`\n```\n`d::e`");
    assert_eq!(spans, [(1, "b".to_owned()), (1, "c()".to_owned()), (5, "d::e".to_owned())]);

    let code = Code {
        text: "pub struct Table;\nfn insert(&mut self) {\n    socket.take_error()\n}\n".to_owned(),
        files: BTreeSet::from(["src/herd/table.rs".to_owned()]),
    };
    for exists in [
        "insert()",
        "Table::insert",
        "Table::insert()",
        "take_error()",
        "src/herd",
        "src/herd/table.rs",
        "herd/table.rs",
        "std::fs::read()",
        "IAMAT",
        "let x = 1;",
    ] {
        assert_eq!(code.missing(exists), None, "{exists}");
    }
    for gone in ["remove()", "Table::remove", "Feed::insert", "src/herd/feed.rs", "feed.rs"] {
        assert!(code.missing(gone).is_some(), "{gone}");
    }
}

/// Lines of a file of tests by which a test can pass without having run, and what is wrong with each.
fn idle_tests(text: &str) -> Vec<(usize, &'static str)> {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let says_so = pattern(r"(?i)\be?print(ln)?!.*\bskip|\bskipped:|\bis skipped\b");
    let makes_optional = pattern(
        r"\b(if|while) let (Ok|Some)\(.*\b(tool|netcat|Hosts::new|storm)\(|\b(tool|netcat|Hosts::new)\([^)]*\)\.(ok|is_ok|is_err)\(",
    );
    let ends_early = pattern(r"\breturn\s*(;|\}|$)|\breturn Ok\(\(\)\)");
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if says_so.is_match(line) {
            found.push((at + 1, "says that it was skipped"));
        }
        if makes_optional.is_match(code_of(line)) {
            found.push((at + 1, "goes on without a tool"));
        }
    }
    for (line, _, count) in functions(&lines) {
        let begin = line - 1;
        let is_test = begin > 0
            && lines[..begin]
                .iter()
                .rev()
                .take_while(|it| it.starts_with("#["))
                .any(|it| it == "#[test]")
            || lines[begin].contains("-> Outcome {");
        let body = lines[begin..begin + count].iter().enumerate();
        let early = body.filter(|(_, text)| is_test && ends_early.is_match(code_of(text)));
        found.extend(early.map(|(at, _)| (line + at, "a test that returns early")));
    }
    found.sort_unstable();
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    WithTests,
    WithoutTests,
}

/// Fails with every place of the chosen files where the code matches.
fn refuse(what: &str, chosen: impl Fn(&Source) -> bool, forbidden: &Regex, scope: Scope) {
    let mut found = String::new();
    for source in sources().iter().filter(|source| chosen(source)) {
        let text = source.code(scope);
        for place in forbidden.find_iter(&text) {
            let line = text[..place.start()].matches('\n').count() + 1;
            _ = writeln!(found, "{}:{line}: {}", source.path, place.as_str());
        }
    }
    assert!(found.is_empty(), "{what}:\n{found}");
}

impl Source {
    fn of(path: String, text: &str, is_test: bool) -> Source {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut of_tests = vec![is_test; lines.len()];
        for begin in 0..lines.len() {
            if lines[begin].trim() == "#[cfg(test)]" {
                let end = end_of_item(&lines, begin + 1);
                of_tests[begin..=end].fill(true);
            }
        }
        Source { path, lines, of_tests }
    }

    /// All at once, for an import may go over several lines; comments and left-out lines stay as empty lines.
    fn code(&self, scope: Scope) -> String {
        let in_scope = |at: usize| scope == Scope::WithTests || !self.of_tests[at];
        let lines = self.lines.iter().enumerate();
        let kept = lines.map(|(at, line)| if in_scope(at) { code_of(line) } else { "" });
        kept.collect::<Vec<&str>>().join("\n")
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    }
}

/// Every file of `src/`. One that its parent declares under `#[cfg(test)]` is of tests as a whole.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&project().join("src"), "rs", &mut paths);
    let texts: Vec<(String, String)> = paths
        .iter()
        .map(|path| (relative(path), std::fs::read_to_string(path).expect("a readable source")))
        .collect();
    let declared = pattern(r"#\[cfg\(test\)\]\s*(?:pub(?:\([a-z]+\))? )?mod (\w+);");
    let mut of_tests = BTreeSet::new();
    for (path, text) in &texts {
        let folder = match path.strip_suffix("/mod.rs").or(path.strip_suffix("/lib.rs")) {
            Some(folder) => folder,
            None => path.trim_end_matches(".rs"),
        };
        for declaration in declared.captures_iter(text) {
            of_tests.insert(format!("{folder}/{}", &declaration[1]));
        }
    }
    let is_test = |path: &str| {
        of_tests
            .iter()
            .any(|module| path == format!("{module}.rs") || path.starts_with(&format!("{module}/")))
    };
    assert!(!texts.is_empty(), "no source found");
    texts.iter().map(|(path, text)| Source::of(path.clone(), text, is_test(path))).collect()
}

/// The line's code: what stands before `//`, unless that is part of a URL.
fn code_of(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The last line of the item that begins here: the first one as far to the left that closes it.
fn end_of_item(lines: &[String], begin: usize) -> usize {
    let Some(first) = lines.get(begin) else {
        return begin.saturating_sub(1);
    };
    let depth = indentation(first);
    for (at, line) in lines.iter().enumerate().skip(begin) {
        let code = code_of(line).trim_end();
        let closes = code.trim_start().starts_with('}') || at == begin && code.ends_with('}');
        let is_signature_end =
            code.ends_with(';') && (at == begin || code.trim_start().starts_with(')'));
        if !code.is_empty() && indentation(code) == depth && (closes || is_signature_end) {
            return at;
        }
    }
    lines.len() - 1
}

/// Line, name and length of each function.
fn functions(lines: &[String]) -> Vec<(usize, String, usize)> {
    let head = pattern(
        r#"^\s*(?:pub(?:\([\w: ]+\))? )?(?:default |const |async |unsafe |extern "\w+" )*fn (\w+)"#,
    );
    let heads = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| Some((at, head.captures(line)?[1].to_owned())));
    heads.map(|(at, name)| (at + 1, name, end_of_item(lines, at) - at + 1)).collect()
}

/// Lines that can panic without a comment above them, or above the statement that they end.
fn unexplained_panics(source: &Source) -> Vec<usize> {
    let panics = pattern(r"\.unwrap\(\)|\.expect\(|\b(panic|unreachable|todo|unimplemented)!");
    let can_panic =
        |at: &usize| !source.of_tests[*at] && panics.is_match(code_of(&source.lines[*at]));
    let is_explained = |at: &usize| {
        let mut line = *at;
        while let Some(above) = line.checked_sub(1) {
            let text = source.lines[above].trim();
            if text.starts_with("//") && !text.starts_with("///") && !text.starts_with("//!") {
                return true;
            }
            if text.is_empty() || text.starts_with("//") || text.ends_with([';', '{', '}']) {
                return false;
            }
            line = above;
        }
        false
    };
    (0..source.lines.len()).filter(can_panic).filter(|at| !is_explained(at)).collect()
}

/// The text in single backticks, outside of fenced blocks, with its line.
fn code_spans(text: &str) -> Vec<(usize, String)> {
    let span = pattern("`([^`]+)`");
    let mut is_fenced = false;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            found.extend(span.captures_iter(line).map(|name| (at + 1, name[1].to_owned())));
        }
    }
    found
}

/// All code of the project, to look names up in.
struct Code {
    text: String,
    files: BTreeSet<String>,
}

impl Code {
    fn read() -> Code {
        let mut paths = Vec::new();
        for folder in ["src", "tests", "benches", "docs", "examples"] {
            collect(&project().join(folder), "", &mut paths);
        }
        let mut text = String::new();
        for path in
            paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        {
            text += &std::fs::read_to_string(path).expect("a readable source");
        }
        Code { text, files: paths.iter().map(|path| relative(path)).collect() }
    }

    /// What of this name does not exist; nothing for what is no name of a function, a type's part or a file.
    fn missing(&self, name: &str) -> Option<String> {
        let is_path =
            pattern(r"^(src|tests|benches|docs|examples)/[\w./-]*$|^[\w/-]+\.rs$").is_match(name);
        if is_path {
            return (!self.has_file(name.trim_end_matches('/'))).then(|| format!("file {name}"));
        }
        let is_call = pattern(r"^\w+(::\w+)*\(\)$").is_match(name);
        let is_part = pattern(r"^[A-Za-z_]\w*(::[A-Za-z_]\w*)+$").is_match(name);
        if !is_call && !is_part {
            return None;
        }
        let segments: Vec<&str> = name.trim_end_matches("()").split("::").collect();
        if segments.len() > 1 && FOREIGN.contains(&segments[0]) {
            return None;
        }
        let missing = segments.iter().find(|segment| !self.has_name(segment));
        missing.map(|segment| format!("{segment} in the code"))
    }

    fn has_file(&self, name: &str) -> bool {
        let is_it = |file: &String| {
            file == name
                || file.starts_with(&format!("{name}/"))
                || name.ends_with(".rs") && file.ends_with(&format!("/{name}"))
        };
        self.files.iter().any(is_it)
    }

    /// Defined, or, as with what the standard library gives, called.
    fn has_name(&self, name: &str) -> bool {
        if matches!(name, "crate" | "self" | "Self" | "super" | "herd_mio") {
            return true;
        }
        let defined = format!(
            r"\b(fn|struct|enum|trait|type|const|static|mod|macro_rules!|union) {name}\b|\b{name}(::<[^>]*>)?!?\(|(?m:^\s*(pub(\([a-z]+\))? )?{name}\s*([,({{:]|$))"
        );
        let defined = pattern(&defined);
        // Of each place where the name is, the line: the pattern over all the code takes half a minute for the documents.
        memmem::find_iter(self.text.as_bytes(), name).any(|at| {
            let start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
            let line = self.text[start..].lines().next();
            line.is_some_and(|line| defined.is_match(line))
        })
    }
}

fn documents() -> Vec<String> {
    let mut paths = Vec::new();
    collect(&project().join("docs"), "md", &mut paths);
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md"];
    paths.extend(others.map(|name| project().join(name)).into_iter().filter(|it| it.is_file()));
    paths.iter().map(|path| relative(path)).collect()
}

/// Every file under this folder whose name ends so; "" means every one.
fn collect(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, extension, into);
        } else if extension.is_empty() || path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
}

fn relative(path: &Path) -> String {
    let inside = path.strip_prefix(project()).expect("a file of the project");
    inside.to_string_lossy().replace('\\', "/")
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| panic!("{error}"))
}
