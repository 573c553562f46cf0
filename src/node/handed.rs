//! What a supervisor hands to its servers with a configuration, because it stands in no file:
//!
//! ```text
//!   why a newer one was refused NUL admin addresses NUL the configuration
//! ```
//!
//! Each may be empty, and neither a configuration nor the others can have a NUL.

use crate::config::{AdminAddresses, Overrides};

/// What stands before a text, so that `Handed::read` finds it.
pub fn hand_on(refused: &str, admin: &str, text: &str) -> String {
    [refused, admin, text].join(DIVIDER)
}

/// What a supervisor has handed on.
pub(super) struct Handed {
    /// Why a newer configuration was refused.
    pub(super) refused: Option<String>,
    /// Where the servers' admin listeners are; None if the file says so.
    pub(super) admin: Option<AdminAddresses>,
    /// The configuration in force. It is empty if there is no file, or if it is the one of the start and is too long for
    /// a lifeline.
    pub(super) text: Vec<u8>,
}

impl Handed {
    pub(super) fn read(bytes: Vec<u8>) -> Handed {
        let parts = bytes.splitn(3, |byte| DIVIDER.as_bytes().contains(byte));
        let [refused, admin, text] = parts.collect::<Vec<&[u8]>>()[..] else {
            return Handed { refused: None, admin: None, text: bytes };
        };
        let words =
            |part| Some(String::from_utf8_lossy(part).into_owned()).filter(|it| !it.is_empty());
        Handed {
            refused: words(refused),
            admin: words(admin).and_then(|text| AdminAddresses::handed_on(&text)),
            text: text.to_vec(),
        }
    }

    /// The command line of the start, with the admin addresses as they are now.
    pub(super) fn overrides(&self, at_start: &Overrides) -> Overrides {
        let admin = self.admin.clone().or_else(|| at_start.admin.clone());
        Overrides { admin, ..at_start.clone() }
    }
}

const DIVIDER: &str = "\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_is_what_is_read() {
        let admin = AdminAddresses::handed_on("A 127.0.0.1:1\nB [::1]:2\n");
        for refused in ["", "no such file"] {
            for (text, addresses) in [("", None), ("A 127.0.0.1:1\nB [::1]:2\n", admin.clone())] {
                let read = Handed::read(hand_on(refused, text, "[link]\n").into_bytes());
                assert_eq!(read.refused.unwrap_or_default(), refused);
                assert_eq!((read.admin, &read.text[..]), (addresses, &b"[link]\n"[..]));
            }
        }
        assert_eq!(Handed::read(b"[link]\n".to_vec()).text, b"[link]\n");
    }
}
