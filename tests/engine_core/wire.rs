//! The server's side of the protocol, written without the code that it tests.

use std::fmt::Write;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Subscribe { subject: String, sid: u64 },
    Unsubscribe { sid: u64 },
    Publish { subject: String, reply: String, headers: String, payload: Vec<u8> },
}

/// Reads all that a client has said, in whole lines and payloads, as members write them.
pub fn read_all(mut bytes: &[u8]) -> Result<Vec<Said>, String> {
    let mut said = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").ok_or("no end of a line")?;
        let line = std::str::from_utf8(&bytes[..end]).map_err(|error| error.to_string())?;
        bytes = &bytes[end + 2..];
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<usize>().map_err(|error| format!("{line}: {error}"));
        match *words {
            ["SUB", subject, sid] => {
                said.push(Said::Subscribe {
                    subject: subject.to_owned(),
                    sid: number(sid)? as u64,
                });
            }
            ["UNSUB", sid] => said.push(Said::Unsubscribe { sid: number(sid)? as u64 }),
            ["PUB", subject, ref rest @ ..] | ["HPUB", subject, ref rest @ ..] => {
                let has_headers = words[0] == "HPUB";
                let (reply, head, all) = match (has_headers, rest) {
                    (false, [all]) => ("", 0, number(all)?),
                    (false, [reply, all]) => (*reply, 0, number(all)?),
                    (true, [reply, head, all]) => (*reply, number(head)?, number(all)?),
                    _ => return Err(format!("not understood: {line}")),
                };
                if bytes.len() < all + 2 || &bytes[all..all + 2] != b"\r\n" || head > all {
                    return Err(format!("the payload does not end where {line} says"));
                }
                said.push(Said::Publish {
                    subject: subject.to_owned(),
                    reply: reply.to_owned(),
                    headers: String::from_utf8_lossy(&bytes[..head]).into_owned(),
                    payload: bytes[head..all].to_vec(),
                });
                bytes = &bytes[all + 2..];
            }
            _ => return Err(format!("not understood: {line}")),
        }
    }
    Ok(said)
}

/// A message to a client.
pub fn message(subject: &str, sid: u64, reply: &str, headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut line = String::new();
    let blank = if reply.is_empty() { "" } else { " " };
    let all = headers.len() + payload.len();
    // Writing to a string never fails.
    _ = match headers.len() {
        0 => write!(line, "MSG {subject} {sid}{blank}{reply} {all}\r\n"),
        head => write!(line, "HMSG {subject} {sid}{blank}{reply} {head} {all}\r\n"),
    };
    [line.as_bytes(), headers, payload, b"\r\n"].concat()
}

/// Whether a subject is one of those that a subscription is for.
pub fn matches(subscription: &str, subject: &str) -> bool {
    match subscription.strip_suffix('>') {
        Some(prefix) => subject.len() > prefix.len() && subject.starts_with(prefix),
        None => subscription == subject,
    }
}

/// Base64, as STREAM.MSG.GET has it.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let all = three.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let all = all << (8 * (3 - three.len()));
        for at in 0..4 {
            if at <= three.len() {
                text.push(LETTERS[(all >> (18 - 6 * at) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}
