//! Reads and checks the configuration file while the herd serves: on a thread, because a disk may be slow. One reading
//! runs at a time, and one more is remembered.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use super::Event;
use crate::config::{Config, ConfigError, Overrides};
use crate::errors::plain;
use crate::files::{Stamps, Watch};
use crate::node;

/// Where the configuration comes from.
pub(super) enum Source {
    /// The report's herd, without a file.
    BuiltIn,
    /// Something that can be read only once, by the name that was typed.
    ReadOnce(String),
    File(PathBuf),
}

/// A configuration that was read and is valid.
pub(super) struct Fresh {
    /// Empty without a file.
    pub(super) text: String,
    pub(super) config: Config,
}

/// What a thread has found.
pub(super) enum Found {
    /// How the files looked before they were read, and what they hold.
    Checked(Stamps, Result<Box<Fresh>, String>),
    /// How the files look.
    Looked(Stamps),
}

/// Reads the configuration when that is asked for, or when its file has changed and is watched (`[reload] watch`).
pub(super) struct Reader {
    source: Source,
    overrides: Overrides,
    /// Those of the command line.
    own_files: Vec<PathBuf>,
    /// The files that are watched: also those of certificates.
    files: Vec<PathBuf>,
    watch: Watch,
    /// How often to look at them, and when next.
    looks: Option<(Duration, Instant)>,
    events: Sender<Event>,
    is_busy: bool,
    /// The thread reads the files, and does not only look at them.
    is_reading: bool,
    /// A request that came while a thread was reading.
    is_asked: bool,
}

impl Reader {
    /// `files` are those of the configuration, without those that it names, with the looks of all before they were read.
    pub(super) fn new(
        source: Source,
        overrides: &Overrides,
        (files, stamps): (Vec<PathBuf>, Stamps),
        events: Sender<Event>,
    ) -> Reader {
        let (own_files, files) = (files, stamps.paths());
        Reader {
            source,
            overrides: overrides.clone(),
            own_files,
            files,
            watch: Watch::new(stamps),
            looks: None,
            events,
            is_busy: false,
            is_reading: false,
            is_asked: false,
        }
    }

    /// How often to look at the files from now on; never with None.
    pub(super) fn look_every(&mut self, interval: Option<Duration>) {
        let is_file = matches!(self.source, Source::File(_));
        if self.looks.map(|(every, _)| every) != interval {
            let looks = interval.map(|every| (every, Instant::now() + every));
            self.looks = looks.filter(|_| is_file);
        }
    }

    /// When to look at the files next.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.looks.map(|(_, at)| at)
    }

    /// Whether a thread reads them.
    pub(super) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// Looks at the files, if that is due.
    pub(super) fn act(&mut self, now: Instant) {
        if let Some((every, at)) = &mut self.looks
            && *at <= now
        {
            *at = now + *every;
            if !self.is_busy {
                let files = self.files.clone();
                // If there is no thread for it, the next look has one.
                let _ = self.run(move || Found::Looked(Stamps::of(&files)));
            }
        }
    }

    /// Reads the file, now or after the reading that runs. Fails with the reason why it cannot be read.
    pub(super) fn request(&mut self) -> Result<(), String> {
        let path = match &self.source {
            Source::BuiltIn => None,
            Source::File(path) => Some(path.clone()),
            Source::ReadOnce(typed) => {
                return Err(format!(
                    "{typed} is not a regular file and was read once, at the start; give the herd a file with \
                     --config, or restart it"
                ));
            }
        };
        if self.is_busy {
            self.is_asked = true;
            return Ok(());
        }
        let (files, overrides) = (self.own_files.clone(), self.overrides.clone());
        let started = self.run(move || check(&files, path.as_deref(), &overrides));
        self.is_reading = started.is_ok();
        started
    }

    /// The thread has ended. Returns the text and the configuration if it has read them; reads again if that was
    /// asked for in the meantime, or if the files have changed.
    pub(super) fn take(&mut self, found: Found) -> Option<Result<Box<Fresh>, String>> {
        (self.is_busy, self.is_reading) = (false, false);
        let (checked, has_changed) = match found {
            Found::Checked(before, checked) => {
                self.files = before.paths();
                self.watch.loading(before);
                (Some(checked), false)
            }
            Found::Looked(stamps) => (None, self.watch.look(stamps)),
        };
        let is_asked = std::mem::take(&mut self.is_asked);
        match is_asked || has_changed {
            true => self.request().err().map(Err).or(checked),
            false => checked,
        }
    }

    fn run(&mut self, read: impl FnOnce() -> Found + Send + 'static) -> Result<(), String> {
        let events = self.events.clone();
        let started = thread::Builder::new().name("reload".into()).spawn(move || {
            // Nobody listens any more when the supervisor ends.
            let _ = events.send(Event::Found(read()));
        });
        self.is_busy = started.is_ok();
        started.map(drop).map_err(|error| format!("cannot start a thread: {}", plain(&error)))
    }
}

/// Reads and checks the configuration and the certificates of all servers.
fn check(files: &[PathBuf], path: Option<&Path>, overrides: &Overrides) -> Found {
    let mut looks = Stamps::of(files);
    let checked = match read(path, overrides) {
        Err(error) => Err(error.in_one_line()),
        Ok(fresh) => {
            looks = looks.and(Stamps::of(&fresh.config.all_tls_files()));
            let certificates = node::require_certificates(&fresh.config);
            certificates.map(|()| Box::new(fresh)).map_err(|error| error.to_string())
        }
    };
    Found::Checked(looks, checked)
}

/// Reads and checks the file, or the files that the command line names beside the built-in configuration.
fn read(path: Option<&Path>, overrides: &Overrides) -> Result<Fresh, ConfigError> {
    let Some(path) = path else {
        let config = Config::built_in_again(overrides)?;
        return Ok(Fresh { text: String::new(), config });
    };
    let text = Config::read_again(path)?;
    let config = Config::from_text_again(&text, path, overrides, true)?;
    Ok(Fresh { text, config })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};

    use super::*;

    const HERD: &str = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:1\"\n";

    /// Lets the reader look and read until it has read `count` times, and a little longer. Returns what it has read:
    /// names of servers, or a reason.
    fn results(reader: &mut Reader, events: &Receiver<Event>, count: usize) -> Vec<String> {
        let mut results = Vec::new();
        let mut end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            reader.act(Instant::now());
            if let Ok(Event::Found(found)) = events.recv_timeout(Duration::from_millis(1))
                && let Some(read) = reader.take(found)
            {
                results.push(match read {
                    Ok(fresh) => fresh.config.names().join(" "),
                    Err(reason) => reason,
                });
                if results.len() == count {
                    end = Instant::now() + Duration::from_millis(100);
                }
            }
        }
        results
    }

    #[test]
    fn a_watched_file_is_read_once_for_each_change_and_not_again_if_it_is_broken() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("herd.toml");
        std::fs::write(&file, HERD).expect("it can be written");
        let (send, events) = mpsc::channel();
        let files = vec![file.clone()];
        let looks = (files.clone(), Stamps::of(&files));
        let mut reader =
            Reader::new(Source::File(file.clone()), &Overrides::default(), looks, send);
        reader.look_every(Some(Duration::from_millis(5)));
        let mut after = |text: &str| {
            std::fs::write(&file, text).expect("it can be written");
            results(&mut reader, &events, 1)
        };
        assert_eq!(after(&HERD.replace('A', "Longer")), ["Longer"]);
        let [broken] = &after("loops = 0")[..] else { panic!("it is read once") };
        assert!(broken.contains("herd.toml:1:9: "), "{broken}");
        assert_eq!(after(HERD), ["A"]);
    }

    #[test]
    fn requests_that_come_while_a_file_is_read_are_one_more_reading() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("herd.toml");
        std::fs::write(&file, HERD).expect("it can be written");
        let (send, events) = mpsc::channel();
        let looks = (Vec::new(), Stamps::default());
        let mut reader = Reader::new(Source::File(file), &Overrides::default(), looks, send);
        for _ in 0..100 {
            assert_eq!(reader.request(), Ok(()));
        }
        let found = results(&mut reader, &events, 2);
        assert_eq!(found, ["A", "A"]);
    }
}
