//! Claim: `--make-certificates` makes what a herd needs and is missing, keeps what is there, and puts no key where others
//! can read it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herd_mio::tls::certificates::herd::{Done, Request, make};
use herd_mio::tls::{
    Authorities, Certificate, ClientNames, Identity, Own, OwnHerd, Revocations, judge_own,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

mod common;

use common::program::text;
use common::{LIMIT, wait_until};

/// A folder in which `tls` is to be made.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { root: tempfile::tempdir().expect("a folder") }
    }

    fn tls(&self) -> PathBuf {
        self.root.path().join("tls")
    }

    fn run(&self, more: &[&str]) -> Output {
        let more: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
        self.run_os(&more)
    }

    fn run_os(&self, more: &[&OsStr]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.current_dir(self.root.path()).env_remove("HERD_PLACES_KEY");
        command.args(["--make-certificates", "tls"]).args(more);
        command.output().expect("the program runs")
    }

    /// What it printed, having succeeded.
    fn make(&self, more: &[&str]) -> String {
        let output = self.run(more);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The reason why it failed.
    fn fails(&self, more: &[&str], status: i32) -> String {
        let output = self.run(more);
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stdout));
        text(&output.stderr)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.tls().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    fn certificate(&self, file: &str) -> Certificate {
        let der = CertificateDer::from_pem_slice(self.read(file).as_bytes()).expect("PEM");
        Certificate::read(&der).expect("a certificate")
    }

    /// The content of each file.
    fn files(&self) -> BTreeMap<OsString, Vec<u8>> {
        let entries = fs::read_dir(self.tls()).expect("a folder").flatten();
        entries.map(|it| (it.file_name(), fs::read(it.path()).expect("a file"))).collect()
    }

    fn chmod(&self, file: &str, mode: u32) {
        let path = self.tls().join(file);
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it can be set");
    }
}

/// What a line of the table says about a file.
fn row<'a>(table: &'a str, file: &str) -> &'a str {
    let line = table.lines().find(|line| line.starts_with(&format!("{file} ")));
    line.unwrap_or_else(|| panic!("no {file} in:\n{table}"))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() as i64
}

const DAY: i64 = 24 * 60 * 60;

#[test]
fn each_server_gets_a_certificate_that_its_neighbours_accept() {
    let place = Place::new();
    let printed = place.make(&[]);
    let authorities = &Authorities::from_pem(place.read("herd-ca.pem").as_bytes()).expect("one");
    let revoked = &Revocations::none();
    for name in ["Goloman", "Hands", "Holiday", "Wilkes", "Welsh"] {
        let identity = &Identity::of_server(name);
        let (chain, key) =
            (&place.read(&format!("{name}.pem")), &place.read(&format!("{name}.key")));
        let herd = Some(OwnHerd { identity, authorities, revoked });
        let judged = judge_own(&Own { chain, key, herd }, now()).expect("it is good");
        assert_eq!(judged.names.uris, [format!("herd:server:{name}")]);
        assert_eq!(judged.names.dns, ["localhost"]);
        assert!(judged.not_before < now() - 600, "clocks differ");
        assert!((judged.not_after - now() - 397 * DAY).abs() < 600, "{}", judged.not_after);
        assert!(row(&printed, &format!("{name}.pem")).ends_with("made"));
    }
    let authority = place.certificate("herd-ca.pem");
    assert!(authority.is_authority && authority.not_after - now() > 3_651 * DAY);
    assert_ne!(place.certificate("clients-ca.pem").subject, authority.subject);
    for line in [
        "key = \"/",
        "certificate = \"/",
        "[tls.neighbours]\naccept = \"tls\"\ndial = \"tls\"\nca = \"/",
        "Move herd-ca.key and clients-ca.key away",
    ] {
        assert!(printed.contains(line), "{line} is not in:\n{printed}");
    }
}

#[test]
fn only_the_owner_can_read_keys_and_the_folder() {
    let place = Place::new();
    place.make(&["--client", "kiwi"]);
    assert_eq!(fs::metadata(place.tls()).expect("a folder").mode() & 0o777, 0o700);
    for entry in fs::read_dir(place.tls()).expect("a folder").flatten() {
        let name = entry.file_name().into_string().expect("text");
        let mode = entry.metadata().expect("a file").mode() & 0o777;
        let expected = if name.ends_with(".key") { 0o600 } else { 0o644 };
        assert_eq!(mode, expected, "{name}");
        assert!(name.ends_with(".key") || name.ends_with(".pem"), "{name} is left over");
    }
}

#[test]
fn a_second_run_changes_nothing_and_a_third_makes_what_is_missing() {
    let place = Place::new();
    place.make(&[]);
    let before = place.files();
    let printed = place.make(&["--days", "1"]);
    assert_eq!(place.files(), before);
    assert!(row(&printed, "Welsh.pem").ends_with("kept"), "{printed}");
    // Without its certificate a key is used again: the certificate was perhaps lost on the way.
    fs::remove_file(place.tls().join("Welsh.pem")).expect("it is there");
    fs::remove_file(place.tls().join("Hands.pem")).expect("it is there");
    fs::remove_file(place.tls().join("Hands.key")).expect("it is there");
    let printed = place.make(&[]);
    assert!(row(&printed, "Welsh.pem").ends_with("made"), "{printed}");
    let after = place.files();
    let differ = |name: &str| after[OsStr::new(name)] != before[OsStr::new(name)];
    assert!(differ("Welsh.pem") && !differ("Welsh.key"));
    assert!(differ("Hands.pem") && differ("Hands.key") && !differ("Goloman.pem"));
}

#[test]
fn what_expires_soon_is_renewed_with_its_key_if_that_is_asked_for() {
    let place = Place::new();
    place.make(&["--days", "29", "--client", "kiwi"]);
    let before = place.files();
    let printed = place.make(&[]);
    let soon = "kept: has fewer than 30 days; --renew issues it again";
    assert!(row(&printed, "Welsh.pem").ends_with(soon), "{printed}");
    assert_eq!(place.files(), before);
    let printed = place.make(&["--renew", "--days", "100"]);
    // The client, too, although it was not named.
    for file in ["Welsh.pem", "client.kiwi.pem"] {
        assert!(row(&printed, file).ends_with("renewed"), "{printed}");
        assert!(place.certificate(file).not_after > now() + 99 * DAY);
    }
    assert_eq!(place.certificate("client.kiwi.pem").names.uris, ["herd:client:kiwi"]);
    let after = place.files();
    for (name, content) in &before {
        let is_same = after[name] == *content;
        let stays =
            name.to_string_lossy().ends_with(".key") || name.to_string_lossy().contains("-ca.");
        assert_eq!(is_same, stays, "{name:?}");
    }
    assert_eq!(after.len(), before.len());
}

#[test]
fn without_the_keys_of_the_authorities_what_is_there_is_kept_and_nothing_is_made() {
    let place = Place::new();
    place.make(&[]);
    fs::remove_file(place.tls().join("herd-ca.key")).expect("it is there");
    place.make(&["--client", "kiwi"]);
    fs::remove_file(place.tls().join("Welsh.pem")).expect("it is there");
    let error = place.fails(&[], 1);
    assert!(error.contains("herd-ca.key is not there, and Welsh.pem can't be made"), "{error}");
}

#[test]
fn an_authority_is_renewed_as_the_same_one() {
    let place = Place::new();
    place.make(&[]);
    // As it will be in ten years.
    let request = Request {
        folder: place.tls(),
        servers: Vec::new(),
        clients: Vec::new(),
        days: 397,
        renews: true,
        now: now() + 3_640 * DAY,
    };
    let rows = make(&request).expect("they are made");
    assert!(rows.iter().all(|row| row.done == Done::Renewed), "{rows:?}");
    // What it has signed is still good.
    let printed = place.make(&[]);
    assert!(row(&printed, "Welsh.pem").ends_with("kept"), "{printed}");
}

#[test]
fn a_certificate_does_not_outlive_its_authority() {
    let place = Place::new();
    place.make(&["--days", "3650"]);
    fs::remove_file(place.tls().join("Welsh.pem")).expect("it is there");
    let server = herd_mio::tls::certificates::herd::ServerNames {
        name: "Welsh".to_owned(),
        identity: Identity::of_server("Welsh"),
        hosts: Vec::new(),
    };
    let request = Request {
        folder: place.tls(),
        servers: vec![server],
        clients: Vec::new(),
        days: 3_650,
        renews: false,
        now: now() + 1_000 * DAY,
    };
    make(&request).expect("it is made");
    let authority = place.certificate("herd-ca.pem").not_after;
    assert_eq!(place.certificate("Welsh.pem").not_after, authority);
}

#[test]
fn folders_and_keys_that_others_can_use_are_refused() {
    let place = Place::new();
    fs::create_dir(place.tls()).expect("a folder");
    for (mode, reason) in [
        (0o755, "other users can open it (chmod o-rwx)"),
        (0o704, "other users can open it (chmod o-rwx)"),
        (0o777, "other users can write to it (chmod go-w)"),
    ] {
        place.chmod("", mode);
        let error = place.fails(&[], 1);
        assert!(error.contains(reason), "{mode:o}: {error}");
        assert!(place.files().is_empty());
    }
    place.chmod("", 0o700);
    place.make(&[]);
    place.chmod("Welsh.key", 0o604);
    let error = place.fails(&[], 1);
    assert!(error.contains("Welsh.key can't be used: other users can read it"), "{error}");
}

#[test]
fn files_of_others_are_never_overwritten() {
    let place = Place::new();
    place.make(&[]);
    for (content, reason) in
        [("nothing", "there is no certificate in it"), ("", "there is no certificate in it")]
    {
        fs::write(place.tls().join("Welsh.pem"), content).expect("it can be written");
        let error = place.fails(&["--renew"], 1);
        assert!(error.contains(reason), "{error}");
        assert_eq!(place.read("Welsh.pem"), content);
    }
    // One of another herd stays, too, and the table says what is wrong with it.
    let other = Place::new();
    other.make(&[]);
    fs::copy(other.tls().join("Welsh.pem"), place.tls().join("Welsh.pem")).expect("a copy");
    let printed = place.make(&["--renew"]);
    let reason = "kept: the certificate of Welsh is not trusted: no authority that is trusted here";
    assert!(row(&printed, "Welsh.pem").contains(reason), "{printed}");
    assert_eq!(place.read("Welsh.pem"), other.read("Welsh.pem"));
    // A link that leads nowhere is not followed.
    fs::remove_file(place.tls().join("Welsh.pem")).expect("it is there");
    let elsewhere = place.root.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, place.tls().join("Welsh.pem")).expect("a link");
    place.fails(&[], 1);
    assert!(!elsewhere.exists());
}

#[test]
fn any_id_gets_a_file_and_a_name_of_its_own() {
    let place = Place::new();
    let long = vec![0xe4; 256];
    let ids: [&[u8]; 8] =
        [b"kiwi", b"KIWI", b"*", b"../../x", b"%41", b"\xff\x00\x01'\"", b"a:b", &long];
    // No command line holds a zero byte.
    let typed: Vec<&[u8]> = ids.iter().copied().filter(|id| !id.contains(&0)).collect();
    let words: Vec<OsString> = typed
        .iter()
        .flat_map(|id| [b"--client".to_vec(), id.to_vec()].map(OsString::from_vec))
        .collect();
    let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
    let output = place.run_os(&words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let files = place.files();
    let clients: Vec<String> = files
        .keys()
        .filter_map(|name| name.to_str())
        .filter(|name| name.starts_with("client.") && name.ends_with(".pem"))
        .map(str::to_owned)
        .collect();
    assert_eq!(clients.len(), typed.len(), "{clients:?}");
    for id in &typed {
        let speakers: Vec<&String> = clients
            .iter()
            .filter(|file| ClientNames::of(&place.certificate(file).names).may_speak_for(id))
            .collect();
        assert_eq!(speakers.len(), 1, "{} by {speakers:?}", id.escape_ascii());
        let certificate = place.certificate(speakers[0]);
        assert!(certificate.allows_client && !certificate.allows_server);
    }
    assert_eq!(fs::read_dir(place.root.path()).expect("a folder").count(), 1, "nothing beside it");
    for id in ["", "a b", "a\tb", &"x".repeat(257)] {
        let error = place.fails(&["--client", id], 2);
        assert!(error.contains("--client"), "{error}");
    }
}

#[test]
fn names_come_from_the_configuration_and_its_lines_fit_into_it() {
    let place = Place::new();
    let config = place.root.path().join("herd.toml");
    // Without [tls] it is refused by all other tasks: its neighbours would talk in plain text.
    let herd = "[[server]]\nname = \"A\"\nlisten = \"0.0.0.0:4000\"\npeer_listen = \"0.0.0.0:4001\"\n\
        advertise = \"a.example.:4001\"\nidentity = \"dns:herd.example\"\nneighbours = [\"B\"]\n\
        [[server]]\nname = \"B\"\nlisten = \"192.0.2.7:4000\"\npeer_listen = \"[2001:db8::7]:4001\"\n\
        advertise = \"Herd.example:4001\"\nidentity = \"uri:spiffe://example.org/b\"\n";
    fs::write(&config, herd).expect("it can be written");
    let printed = place.make(&["--config", "herd.toml"]);
    let a = place.certificate("A.pem");
    assert_eq!(
        (a.names.uris, a.names.dns),
        (vec![], vec!["herd.example".into(), "a.example".into()])
    );
    let b = place.certificate("B.pem");
    assert_eq!(b.names.uris, ["spiffe://example.org/b"]);
    assert_eq!(b.names.dns, [""; 0], "the name of its host is the identity of A");
    let (_, lines) = printed.split_once("\n[tls]\n").expect("lines for the configuration");
    let (lines, _) = lines.split_once("\n\nA server needs").expect("advice after them");
    assert!(lines.contains("certificate = \"tls/{name}.pem\""), "{lines}");
    fs::write(&config, format!("{herd}[tls]\n{lines}\n")).expect("it can be written");
    let config = config.to_str().expect("text");
    let checked = common::program::herd_mio(&["--check", "--config", config]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn a_server_whose_files_would_be_an_authoritys_is_refused() {
    let place = Place::new();
    let config = place.root.path().join("herd.toml");
    fs::write(&config, common::program::server("Herd-CA", 4000, "")).expect("it can be written");
    let error = place.fails(&["--config", "herd.toml"], 2);
    assert!(error.contains("the files of the server Herd-CA would be those of an authority"));
    assert!(!place.tls().exists());
}

#[test]
fn options_without_the_task_and_wrong_values_are_explained() {
    for (words, expected) in [
        (&["--check", "--days", "3"][..], "--days needs --make-certificates DIR"),
        (&["--check", "--renew"], "--renew needs --make-certificates DIR"),
        (&["--herd", "--client", "kiwi"], "--client needs --make-certificates DIR"),
        (&["--make-certificates", "x", "--days", "0"], "a number of days from 1 to 3650"),
        (&["--make-certificates", "x", "--days", "3651"], "a number of days from 1 to 3650"),
        (&["--make-certificates", "x", "--check"], "exclude each other"),
    ] {
        let output = common::program::herd_mio(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let error = text(&output.stderr);
        assert!(error.contains(expected), "{words:?}: {error}");
    }
}

/// They end with one set: each certificate has the key beside it.
#[test]
fn several_at_once_make_one_set() {
    let place = Place::new();
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_herd-mio"))
            .current_dir(place.root.path())
            .args(["--make-certificates", "tls", "--client", "kiwi"])
            .stdout(Stdio::null())
            .spawn()
            .expect("the program runs")
    };
    let mut running: Vec<_> = (0..4).map(|_| start()).collect();
    for process in &mut running {
        let mut status = None;
        wait_until(LIMIT, "it has ended", || {
            status = process.try_wait().expect("a process");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
    let printed = place.make(&[]);
    assert!(printed.lines().skip(1).take(8).all(|line| line.ends_with("kept")), "{printed}");
    for name in ["Goloman", "client.kiwi"] {
        let (chain, key) =
            (&place.read(&format!("{name}.pem")), &place.read(&format!("{name}.key")));
        let judged = judge_own(&Own { chain, key, herd: None }, now());
        assert!(!matches!(judged, Err(herd_mio::tls::OwnError::Pair(_))), "{judged:?}");
    }
}

/// A folder that is used says so in the end, and waits before.
#[test]
fn a_folder_in_use_is_waited_for() {
    let place = Place::new();
    place.make(&[]);
    let lock = fs::File::open(place.tls()).expect("a folder");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_herd-mio"))
        .current_dir(place.root.path())
        .args(["--make-certificates", "tls"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program runs");
    std::thread::sleep(Duration::from_millis(300)); // It would have ended long ago.
    assert!(waiting.try_wait().expect("a process").is_none(), "it did not wait");
    drop(lock);
    assert!(waiting.wait().expect("a process").success());
}
