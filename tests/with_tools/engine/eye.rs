//! An independent reader and writer of the bucket: nats-py, by a script beside this file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::nats::Nats;
use crate::common::needs::{Missing, python_with};
use crate::common::{LIMIT, wait_until};

/// A process that is connected to NATS. Dropped, it is killed.
pub struct Eye {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

/// What a bucket holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    /// The number of the message in the stream.
    pub sequence: u64,
}

impl Eye {
    /// Connects as anybody.
    pub fn open(nats: &Nats) -> Result<Eye, Missing> {
        Eye::open_with(nats, &json!({}), None)
    }

    /// The same with more for the connection (`user` and `password`, `token`, `ca`), and from a host.
    pub fn open_with(nats: &Nats, more: &Value, host: Option<&str>) -> Result<Eye, Missing> {
        let python = python_with("nats", "pip, as nats-py")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/with_tools/engine/eye.py");
        let mut command = match host {
            None => python,
            Some(host) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", host]).arg(python.get_program());
                command
            }
        };
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Python starts");
        let requests = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut eye = Eye { child, requests, answers };
        let mut connect = json!({ "do": "connect", "servers": nats.urls() });
        let more = more.as_object().cloned().unwrap_or_default();
        connect.as_object_mut().expect("it is one").extend(more);
        eye.ask(connect);
        Ok(eye)
    }

    /// Has the script do something; what it could not do is an error.
    pub fn try_ask(&mut self, request: Value) -> Result<Value, String> {
        writeln!(self.requests, "{request}")
            .map_err(|error| format!("the script ended: {error}"))?;
        let answer = self.answers.recv_timeout(4 * LIMIT);
        let answer = answer.map_err(|error| format!("no answer to {request}: {error}"))?;
        let answer: Value = serde_json::from_str(&answer).expect("the script answers in JSON");
        match &answer["error"] {
            Value::String(error) => Err(error.clone()),
            _ => Ok(answer["ok"].clone()),
        }
    }

    /// The same, and it must be done.
    pub fn ask(&mut self, request: Value) -> Value {
        self.try_ask(request.clone()).unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    /// All that the bucket holds, by key; nothing if there is no such bucket.
    pub fn all(&mut self, bucket: &str) -> BTreeMap<String, Entry> {
        let found = match self.try_ask(json!({ "do": "all", "bucket": bucket })) {
            Ok(found) => found,
            Err(error) if error.starts_with("BucketNotFoundError") => return BTreeMap::new(),
            Err(error) => panic!("all of {bucket}: {error}"),
        };
        let entries = found.as_array().expect("a list").iter().map(entry);
        entries.collect()
    }

    /// What the bucket holds of a client.
    pub fn get(&mut self, bucket: &str, id: &[u8]) -> Option<Entry> {
        let found = self.ask(json!({ "do": "get", "bucket": bucket, "key": key(id) }));
        (!found.is_null()).then(|| entry(&found).1)
    }

    /// What the leader of the bucket's stream has of a client. Other readers may be told by another node.
    pub fn leader_get(&mut self, bucket: &str, id: &[u8]) -> Option<Entry> {
        let found = self.ask(json!({ "do": "leader_get", "bucket": bucket, "key": key(id) }));
        (!found.is_null()).then(|| entry(&found).1)
    }

    /// Waits until the bucket holds this of a client.
    pub fn wait_for(&mut self, bucket: &str, id: &str, holds: impl Fn(&str) -> bool) {
        let mut last = None;
        wait_until(LIMIT, &format!("the bucket has the update of {id}"), || {
            let Ok(found) =
                self.try_ask(json!({ "do": "get", "bucket": bucket, "key": key(id.as_bytes()) }))
            else {
                return false;
            };
            last = (!found.is_null())
                .then(|| String::from_utf8_lossy(&entry(&found).1.value).into_owned());
            last.as_deref().is_some_and(&holds)
        });
    }

    /// Puts a value, whatever is there. Returns its number in the stream.
    pub fn put(&mut self, bucket: &str, id: &[u8], value: &str) -> u64 {
        let request = json!({ "do": "put", "bucket": bucket, "key": key(id), "value": value });
        self.ask(request).as_u64().expect("a number")
    }

    /// Deletes a client, as `nats kv del` does.
    pub fn delete(&mut self, bucket: &str, id: &[u8]) {
        self.ask(json!({ "do": "delete", "bucket": bucket, "key": key(id) }));
    }

    /// A request to JetStream: `api("STREAM.INFO.KV_herd", Value::Null)`. A refusal is an error.
    pub fn api(&mut self, subject: &str, body: Value) -> Result<Value, String> {
        self.try_ask(json!({ "do": "api", "subject": subject, "body": body }))
    }

    /// What JetStream says of a bucket's stream; None if there is none.
    pub fn stream(&mut self, bucket: &str) -> Option<Value> {
        self.api(&format!("STREAM.INFO.KV_{bucket}"), Value::Null).ok()
    }

    /// Makes a stream as this says, which need not be fit for a bucket.
    pub fn make_stream(&mut self, config: Value) {
        let name = config["name"].as_str().expect("it has a name").to_owned();
        self.api(&format!("STREAM.CREATE.{name}"), config).expect("the stream is made");
    }

    pub fn delete_stream(&mut self, bucket: &str) {
        self.api(&format!("STREAM.DELETE.KV_{bucket}"), Value::Null).expect("it is deleted");
    }

    /// The consumers of a bucket.
    pub fn consumers(&mut self, bucket: &str) -> Vec<String> {
        let names = self.ask(json!({ "do": "consumers", "stream": format!("KV_{bucket}") }));
        let names = names.as_array().cloned().unwrap_or_default();
        names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// Writes a snapshot of a bucket into a file. [`Eye::restore`] needs what is returned.
    pub fn backup(&mut self, bucket: &str, file: &Path) -> Value {
        self.ask(json!({ "do": "backup", "stream": format!("KV_{bucket}"), "file": file }))
    }

    /// Makes a bucket that was deleted again as it was.
    pub fn restore(&mut self, bucket: &str, file: &Path, of: Value) {
        let stream = format!("KV_{bucket}");
        self.ask(json!({ "do": "restore", "stream": stream, "file": file, "of": of }));
    }
}

impl Drop for Eye {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The key of a client, written once more from its description.
pub fn key(id: &[u8]) -> String {
    let mut key = String::new();
    for (at, &byte) in id.iter().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' && at > 0;
        match is_plain {
            true => key.push(char::from(byte)),
            false => key += &format!("={byte:02X}"),
        }
    }
    key
}

/// `[key, value, number]`, as the script writes it.
fn entry(found: &Value) -> (String, Entry) {
    let (key, value) = (found[0].as_str().expect("text"), found[1].as_str().expect("text"));
    let byte = |letter: char| u8::try_from(letter).expect("bytes are written as letters");
    let value = value.chars().map(byte).collect();
    (key.to_owned(), Entry { value, sequence: found[2].as_u64().expect("a number") })
}

/// How long a test gives NATS to elect a leader and the herd to notice.
pub const ELECTION: Duration = Duration::from_secs(60);
