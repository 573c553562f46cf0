//! The log: records are appended to a buffer, and a thread writes what is there, so that no task
//! waits for the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem::take;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Log {
    shared: Arc<(Mutex<Text>, Condvar)>,
    /// Seconds that local time is ahead of UTC.
    offset: i64,
}

#[derive(Default)]
struct Text {
    second: i64,
    stamp: String,
    unwritten: Vec<u8>,
}

impl Log {
    pub fn open(path: &str) -> io::Result<Option<Log>> {
        if path == "off" {
            return Ok(None);
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let shared = Arc::default();
        let log = Log { shared: Arc::clone(&shared), offset: local_offset() };
        thread::spawn(move || write(&shared, file));
        Ok(Some(log))
    }

    pub fn info(&self, message: &str) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs() as i64;
        let (text, filled) = &*self.shared;
        let mut text = text.lock().expect("nobody panics with it");
        if second != text.second {
            text.second = second;
            text.stamp = stamp(second + self.offset);
        }
        let Text { stamp, unwritten, .. } = &mut *text;
        let was_empty = unwritten.is_empty();
        for part in [stamp, " - INFO: ", message, "\n"] {
            unwritten.extend_from_slice(part.as_bytes());
        }
        if was_empty {
            filled.notify_one();
        }
    }
}

fn write(shared: &(Mutex<Text>, Condvar), mut file: File) {
    let (text, filled) = shared;
    loop {
        let text = text.lock().expect("nobody panics with it");
        let mut text = filled.wait_while(text, |text| text.unwritten.is_empty()).expect("as above");
        let unwritten = take(&mut text.unwritten);
        drop(text);
        if let Err(error) = file.write_all(&unwritten) {
            eprintln!("the log can't be written: {error}");
        }
    }
}

/// `06-Jun-19 18:30:55`.
fn stamp(local: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    // Days since 1 March of the year 0, in eras of 400 years (Hinnant's civil_from_days).
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = year + 400 * days.div_euclid(146_097) + i64::from(month >= 10);
    let (hours, minutes, seconds) = (second / 3_600, second / 60 % 60, second % 60);
    let name = MONTHS[(month as usize + 2) % 12];
    format!("{day:02}-{name}-{:02} {hours:02}:{minutes:02}:{seconds:02}", year % 100)
}

/// The standard library knows no time zone, and `date` does.
fn local_offset() -> i64 {
    let output = Command::new("date").arg("+%z").output().unwrap_or_else(|error| {
        eprintln!("no local time: {error}");
        std::process::exit(1)
    });
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.trim().parse::<i64>().unwrap_or(0);
    number / 100 * 3_600 + number % 100 * 60
}
