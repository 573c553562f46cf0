//! The settings that are one for the whole herd. A reload does not change them, so that never one server has other
//! values than its neighbours; a server that is restarted in a running herd gets those of the others.

use std::fmt::Write;
use std::path::Path;

use super::Config;
use super::document::Document;
use super::file::{read_link, read_settings};
use super::units::written;

impl Config {
    /// These settings as a text, for another process of this program.
    pub fn herd_wide_text(&self) -> String {
        let mut text = String::new();
        let (dialect, max_future) = (self.dialect.name(), written(self.max_future));
        let (max_clients, refill) = (self.max_clients, self.link.refill);
        // Writing to a String never fails.
        let _ = write!(
            text,
            "dialect = {dialect:?}\nmax_clients = {max_clients}\nmax_future = {max_future:?}\n\
             link.refill = {refill}\n"
        );
        text
    }

    /// Applies these settings from such a text, and leaves them as they are if it is not valid.
    pub fn take_herd_wide(&mut self, text: &str) {
        let document = Document::new(Path::new("the herd's settings"), text);
        let mut taken = self.clone();
        if let Ok(mut top) = document.top() {
            read_settings(&mut top, &mut taken);
            read_link(top.section("link"), &mut taken);
            if document.check().is_ok() {
                *self = taken;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_the_whole_herd_are_the_same_after_they_were_handed_on() {
        let server = "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:0\"\n";
        let of_herd = "dialect = \"course\"\nmax_clients = 7\nmax_future = \"90s\"\n";
        let running = format!("{of_herd}[link]\nrefill = false\nheartbeat = \"1s\"\n{server}");
        let running = Config::parse(&running).expect("a configuration");
        let mut new = Config::parse(&format!("[link]\nheartbeat = \"2s\"\n{server}")).expect("one");
        let expected = Config {
            link: super::super::LinkSettings {
                heartbeat: new.link.heartbeat,
                ..running.link.clone()
            },
            ..running.clone()
        };
        new.take_herd_wide(&running.herd_wide_text());
        assert_eq!(new, expected);
        new.take_herd_wide("max_clients = 8\nmax_clients = 9");
        assert_eq!(new, expected, "what is not valid changes nothing");
    }
}
