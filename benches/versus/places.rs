//! WHATSAT: one request after the other on one connection, each of which makes the server ask a
//! service over TLS. The service is the same for all; ours keeps its connections to it, aiohttp
//! does so or not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::load::histogram;
use crate::peers::{Running, Workshop, free_port};

/// What one server made of it.
#[derive(Clone, Debug)]
pub struct Places {
    pub title: &'static str,
    /// Requests a second.
    pub rate: f64,
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
}

/// Measures what is there, in rounds. Says why where nothing is.
pub fn measure(workshop: &Workshop, time: Duration) -> Result<Vec<Places>, Failure> {
    let help = Command::new(workshop.ours()).arg("--help").output()?;
    if !String::from_utf8_lossy(&help.stdout).contains("--places-server") {
        return Err("this herd-mio has no --places-server".into());
    }
    workshop.python_has("aiohttp")?;
    let (_service, url, ca) = start_service(workshop)?;
    let servers = [
        ("herd-mio", ours(workshop, &url, &ca)?),
        ("aiohttp, a session for each request", aiohttp(workshop, &url, &ca, "each")?),
        ("aiohttp, a session kept", aiohttp(workshop, &url, &ca, "kept")?),
    ];
    let mut all = Vec::new();
    for (title, server) in &servers {
        ask(server, time / 5)?;
        let (rate, p50, p99) = ask(server, time)?;
        all.push(Places { title, rate, p50, p99 });
    }
    Ok(all)
}

/// Our Places server, its URL, and its certificate authority, which it leaves in the folder in which it runs.
pub fn start_service(workshop: &Workshop) -> Result<(Running, String, PathBuf), Failure> {
    let port = free_port()?;
    let folder = workshop.scratch.path();
    let mut command = Command::new(workshop.ours());
    command.arg(format!("--places-server=127.0.0.1:{port}")).current_dir(folder);
    let service = workshop.start_command(command, port, None)?;
    let url = format!("https://localhost:{port}/maps/api/place/nearbysearch/json");
    Ok((service, url, folder.join("ca.pem")))
}

pub fn ours(workshop: &Workshop, url: &str, ca: &Path) -> Result<Running, Failure> {
    let (port, peers) = (free_port()?, free_port()?);
    let config = workshop.scratch.path().join("places.toml");
    let text = format!(
        "[[server]]\nname = \"Places\"\nlisten = \"127.0.0.1:{port}\"\npeer_listen = \"127.0.0.1:{peers}\"\n"
    );
    fs::write(&config, text)?;
    let mut command = workshop.our_command("Places", &config, false);
    command.args(["--places", "google", "--places-url", url, "--places-ca"]).arg(ca);
    command.env("HERD_PLACES_KEY", "key").stdin(Stdio::null());
    workshop.start_command(command, port, None)
}

pub fn aiohttp(workshop: &Workshop, url: &str, ca: &Path, style: &str) -> Result<Running, Failure> {
    let port = free_port()?;
    let mut command = workshop.python("whatsat.py");
    command.args([&port.to_string(), url]).arg(ca).arg(style);
    workshop.start_command(command, port, None)
}

/// One request after the other, for so long. Identical ones may share an answer, so each asks
/// about another place.
fn ask(server: &Running, time: Duration) -> Result<(f64, f64, f64), Failure> {
    let stream = TcpStream::connect(server.clients)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(&stream);
    let mut answer = Vec::new();
    let mut latency = histogram();
    let mut asking = Duration::ZERO;
    let mut number = 0u32;
    while asking < time {
        number += 1;
        let id = format!("client-{number:06}");
        let fields = format!("{id} +34.{:06}-118.445127 1559865055.918963997", number % 1_000_000);
        (&stream).write_all(format!("IAMAT {fields}\n").as_bytes())?;
        answer.clear();
        reader.read_until(b'\n', &mut answer)?;
        let begin = Instant::now();
        (&stream).write_all(format!("WHATSAT {id} 10 5\n").as_bytes())?;
        answer.clear();
        while !answer.ends_with(b"\n\n") {
            if reader.read_until(b'\n', &mut answer)? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        let took = begin.elapsed();
        check(&answer, &format!("AT AT {fields}\n"))?;
        latency.saturating_record(took.as_nanos() as u64);
        asking += took;
    }
    let micros = |of| latency.value_at_quantile(of) as f64 / 1e3;
    Ok((f64::from(number) / asking.as_secs_f64(), micros(0.5), micros(0.99)))
}

/// The first line is the AT line, and what follows holds places and no error.
fn check(answer: &[u8], first_line: &str) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(answer);
    let body = text.strip_prefix(first_line).ok_or_else(|| format!("a wrong answer: {text}"))?;
    let parsed: serde_json::Value = serde_json::from_str(body)?;
    let results = parsed["results"].as_array().map_or(0, Vec::len);
    match parsed["status"].as_str() {
        Some("OK") if (1..=5).contains(&results) => Ok(()),
        _ => Err(format!("an answer without places: {body}").into()),
    }
}
