//! Every option, in one table. The parser (`args.rs`), `--help` (`help.rs`) and `--completion` (`completion/`) read
//! it, and tests compare the manual page with it. A new option is a row here, a line in `args.rs` that takes its
//! value, and an entry in `contrib/man/herd-mio.1`.

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct CliOption {
    /// With its dashes.
    pub name: &'static str,
    /// How it is also written.
    pub short: Option<&'static str>,
    pub value: Value,
    pub section: Section,
    /// What it does, for `--help`, its default included. `--help` breaks the lines.
    pub text: &'static str,
}

/// What an option takes. Where there is a text, it stands for the value in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// It takes no value.
    None,
    /// One of these words.
    OneOf(&'static str, &'static [&'static str]),
    /// The words that are most likely; others are valid, too.
    Such(&'static str, &'static [&'static str]),
    /// A path to a file.
    File(&'static str),
    /// A path to a folder.
    Folder(&'static str),
    /// Something that nobody but the user knows.
    Text(&'static str),
}

/// The sections of `--help`, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The task of the process; exactly one is required.
    Task,
    /// Ask for something and exit, whatever else is on the command line.
    Ask,
    Configuration,
    Administration,
    Log,
    Places,
    Certificates,
}

impl Section {
    /// All of them, with their headings.
    pub const LISTED: [(Section, &'static str); 7] = [
        (Section::Task, "Tasks, of which exactly one is required"),
        (Section::Ask, "Or"),
        (Section::Configuration, "Configuration"),
        (Section::Administration, "Administration"),
        (Section::Log, "Log"),
        (Section::Places, "Places"),
        (Section::Certificates, "Certificates"),
    ];
}

impl Value {
    /// What stands for the value in `--help`.
    pub fn shown(self) -> Option<&'static str> {
        match self {
            Value::None => None,
            Value::OneOf(shown, _)
            | Value::Such(shown, _)
            | Value::File(shown)
            | Value::Folder(shown)
            | Value::Text(shown) => Some(shown),
        }
    }

    /// The words that a shell may propose.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Value::OneOf(_, words) | Value::Such(_, words) => words,
            _ => &[],
        }
    }
}

/// The option of this name, which may be its other one.
pub fn find(name: &str) -> Option<&'static CliOption> {
    OPTIONS.iter().find(|option| option.name == name || option.short == Some(name))
}

/// The options of a section.
pub fn of(section: Section) -> impl Iterator<Item = &'static CliOption> {
    OPTIONS.iter().filter(move |option| option.section == section)
}

const fn option(
    section: Section,
    name: &'static str,
    value: Value,
    text: &'static str,
) -> CliOption {
    CliOption { name, short: None, value, section, text }
}

const fn ask(name: &'static str, short: &'static str, text: &'static str) -> CliOption {
    CliOption { name, short: Some(short), value: Value::None, section: Section::Ask, text }
}

/// The options that read and write a server's database in place of running the server.
pub const DUMP_STATE: &str = "--dump-state";
pub const LOAD_STATE: &str = "--load-state";
/// The option that may be given more than once.
pub const REPEATABLE: &str = "--client";

/// Every option.
#[rustfmt::skip] // A row is an option, its value, and its text.
pub const OPTIONS: &[CliOption] = &[
    option(Section::Task, "--server", Value::Text("NAME"),
        "run one server of the herd"),
    option(Section::Task, "--herd", Value::None,
        "run every server, one process each; stop with Ctrl-C"),
    option(Section::Task, "--check", Value::None,
        "validate the configuration, print it, and exit"),
    option(Section::Task, "--places-server", Value::Text("IP:PORT"),
        "serve the embedded places over HTTPS (for tests and demos)"),
    option(Section::Task, "--make-certificates", Value::Folder("DIR"),
        "make certificates for TLS in this folder, for each server of the configuration: those that are missing; print \
         what was made, and the configuration's lines for it"),
    option(Section::Task, "--probe", Value::Text("URL"),
        "send one GET to this http or https URL; exit with status 0 if the answer is 200 within 2 s, or else with 1"),
    option(Section::Task, "--completion", Value::OneOf("SHELL", &["bash", "fish", "zsh"]),
        "print the completion of these options for bash, fish or zsh"),
    ask("--help", "-h", "print this text"),
    ask("--version", "-V", "print the version and the protocol between servers"),

    option(Section::Configuration, "--config", Value::File("FILE"),
        "configuration file (TOML); herd.example.toml explains every setting \
         [default: five servers on 127.0.0.1, ports 12138 to 12142]"),
    option(Section::Configuration, "--diff", Value::File("OLD"),
        "with --check: print what changes from the configuration OLD, and whether a reload or only a restart puts it \
         in force"),
    option(Section::Configuration, "--dialect", Value::OneOf("report|course", &["report", "course"]),
        "form of the answers, overrides the file [default: report]"),
    option(Section::Configuration, "--state-dir", Value::Folder("DIR"),
        "keep what the servers know in this folder, DIR/<server>.redb; overrides [state] dir [default: in memory only]"),
    option(Section::Configuration, DUMP_STATE, Value::None,
        "with --server: print what its database in the state directory holds, one UPDATELOC line for each client, and \
         exit; refused while the server runs"),
    option(Section::Configuration, LOAD_STATE, Value::None,
        "with --server: add lines of --dump-state from standard input to that database, all or none, and exit; a newer \
         update stays"),

    option(Section::Administration, "--probe-ca", Value::File("FILE"),
        "with --probe: PEM certificates to trust, in place of the built-in roots"),
    option(Section::Administration, "--admin", Value::Text("ADDR"),
        "serve health, metrics and JSON over HTTP at this port of 127.0.0.1, or at this IP:PORT; with --herd the \
         servers count up from it; overrides admin_listen [default: off]"),

    option(Section::Log, "--log-dir", Value::Folder("DIR"),
        "folder for the logs, <server>_log.txt [default: the current folder]"),
    option(Section::Log, "--log-level", Value::Such("LEVELS", &["off", "error", "warning", "info", "debug", "trace"]),
        "off, error, warning, info, debug or trace; also by target, such as info,link=debug; overrides [log] level \
         and levels [default: info]"),

    option(Section::Places, "--places", Value::OneOf("PROVIDER", &["google", "google-new", "offline"]),
        "google, google-new, or offline (the embedded places) \
         [default: google-new with an API key, offline without one]"),
    option(Section::Places, "--places-url", Value::Text("URL"),
        "another https endpoint with the provider's API"),
    option(Section::Places, "--places-ca", Value::File("FILE"),
        "PEM certificates to trust for it, in place of the built-in roots"),
    option(Section::Places, "--places-key-file", Value::File("FILE"),
        "file that holds the API key; excludes --places-key; with --places-server: the key that its clients must \
         send [default: none]"),
    option(Section::Places, "--places-key", Value::Text("KEY"),
        "the API key; excludes --places-key-file, which is better: `ps` shows the command line to every user"),

    option(Section::Certificates, "--days", Value::Text("N"),
        "with --make-certificates: how long certificates of servers and clients are valid [default: 397]"),
    option(Section::Certificates, REPEATABLE, Value::Text("ID"),
        "with --make-certificates: also one for a client that may speak for this id; can be repeated"),
    option(Section::Certificates, "--renew", Value::None,
        "with --make-certificates: issue again what has fewer than 30 days"),
    option(Section::Certificates, "--tls-dir", Value::Folder("DIR"),
        "with --places-server or --herd: folder for the certificates of the Places server; clients trust DIR/ca.pem \
         (--places-ca) [default: the current folder; with --herd a temporary one]"),
];
