//! Chromium, driven by a script of Node, shows the page of the admin listener as an operator sees it: in three widths,
//! light and dark, by keyboard, through the accessibility tree, and without a script.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::needs::{Missing, Outcome, node_with, tool};
use crate::common::ports::reserve;
use crate::common::process::status_of;
use crate::common::{LIMIT, ServerProcess, Setup};
use crate::engine::nats::{Nats, Release};

/// For how long `the_heap_stays_flat_for_an_hour` looks, if this is set: a number of seconds.
const SECONDS: &str = "HERD_MIO_PAGE_SECONDS";

/// A browser with one page at a time.
pub struct Browser {
    node: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    _profile: TempDir,
}

impl Browser {
    pub fn start() -> Result<Browser, Missing> {
        tool("chromium")?;
        node_with("axe-core")?;
        let mut node = node_with("puppeteer-core")?;
        let profile = tempfile::tempdir().expect("a temporary folder");
        let which = Command::new("sh").args(["-c", "command -v chromium"]).output();
        let which = String::from_utf8(which.expect("sh runs").stdout).expect("a path");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/with_tools/page.js");
        node.arg(script).arg(profile.path()).arg(which.trim());
        node.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut node = node.spawn().expect("Node starts");
        let input = node.stdin.take();
        let output = BufReader::new(node.stdout.take().expect("it is piped"));
        Ok(Browser { node, input, output, _profile: profile })
    }

    /// Lets it do something, and returns what came of it.
    fn act(&mut self, command: &Value) -> Value {
        let input = self.input.as_mut().expect("it is open");
        writeln!(input, "{command}").expect("the script reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the script writes");
        let answer: Value = serde_json::from_str(&line).expect("an answer in JSON");
        assert_eq!(
            answer["error"],
            Value::Null,
            "{command}:\n{}",
            answer["error"].as_str().unwrap_or_default()
        );
        answer["value"].clone()
    }

    pub fn open(&mut self, admin: SocketAddr) {
        self.act(&json!({ "act": "open", "url": url(admin) }));
        self.wait_for("connected");
    }

    /// Waits for what the page says of its connection.
    fn wait_for(&mut self, words: &str) {
        self.wait(&format!(
            "document.getElementById('connection').textContent.startsWith('{words}')"
        ));
    }

    pub fn wait(&mut self, until: &str) -> Value {
        self.act(&json!({ "act": "wait", "until": until, "time": LIMIT.as_millis() as u64 }))
    }

    fn evaluate(&mut self, text: &str) -> Value {
        self.act(&json!({ "act": "evaluate", "text": text }))
    }

    fn press(&mut self, key: &str) {
        self.act(&json!({ "act": "press", "key": key }));
    }

    /// The width of the next page that is opened.
    fn size(&mut self, width: u32) {
        self.act(&json!({ "act": "size", "width": width }));
    }

    fn media(&mut self, name: &str, value: &str) {
        self.act(&json!({ "act": "media", "features": [{ "name": name, "value": value }] }));
    }

    fn heap(&mut self) -> f64 {
        self.act(&json!({ "act": "heap" })).as_f64().expect("a number")
    }

    /// Presses Tab until what has the focus is this.
    fn tab_to(&mut self, selector: &str) {
        let is_there = format!("document.activeElement.matches({})", json!(selector));
        for _ in 0..100 {
            self.press("Tab");
            if self.evaluate(&is_there) == json!(true) {
                return;
            }
        }
        panic!("Tab never comes to {selector}");
    }

    /// Waits until the accessibility tree has a name with these words.
    fn wait_for_tree(&mut self, role: &str, words: &str) {
        let begin = Instant::now();
        loop {
            let tree = self.act(&json!({ "act": "tree" }));
            let mut names = Vec::new();
            collect(&tree, &mut names);
            if names.iter().any(|(its, name)| its == role && name.contains(words)) {
                return;
            }
            assert!(begin.elapsed() < LIMIT, "no {role} with {words:?} in {names:?}");
        }
    }

    fn assert_no_problems(&mut self, admin: SocketAddr, when: &str) {
        assert_eq!(self.act(&json!({ "act": "problems" })), json!([]), "{when}");
        let requested = self.act(&json!({ "act": "requested" }));
        let requested: BTreeSet<&str> =
            requested.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let origin = url(admin);
        assert!(requested.iter().all(|it| it.starts_with(&origin)), "{when}: {requested:?}");
        assert_eq!(requested.len(), 6, "the page, its files and the events: {requested:?}");
    }
}

/// It closes the browser once its input ends.
impl Drop for Browser {
    fn drop(&mut self) {
        self.input = None;
        status_of(&mut self.node);
    }
}

/// Role and name of each node.
fn collect(node: &Value, into: &mut Vec<(String, String)>) {
    let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
    into.push((text("role"), text("name")));
    for child in node["children"].as_array().into_iter().flatten() {
        collect(child, into);
    }
}

fn url(admin: SocketAddr) -> String {
    format!("http://localhost:{}/", admin.port())
}

/// Goloman with an admin listener, and Hands.
fn two() -> (Setup, ServerProcess, ServerProcess) {
    let setup = Setup::star(&["Hands"]).heartbeat("1s");
    let goloman = setup.start_with("Goloman", &["--admin", "0"]);
    let hands = setup.start("Hands");
    (setup, goloman, hands)
}

/// Of Goloman's only neighbour.
const LINK_STATE: &str = "document.querySelector('#links-rows td').textContent";

pub fn node_finds_no_mistake_in_the_scripts() -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for script in
        ["src/server/admin/page/page.js", "tests/with_tools/page.js", "contrib/map/land.mjs"]
    {
        let output = tool("node")?.arg("--check").arg(folder.join(script)).output();
        let output = output.expect("node runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

pub fn nothing_is_wrong_in_three_widths_light_and_dark() -> Outcome {
    let mut browser = Browser::start()?;
    // Three neighbours, of which one runs, and clients: everything has something to show.
    let setup = Setup::report();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let _hands = setup.start("Hands");
    let mut client = server.client();
    for number in 0..100 {
        let line = format!(
            "IAMAT client-{number} {:+}.5{:+}.5 1559865055.9",
            number % 80 - 40,
            number - 50
        );
        client.ask(&line);
    }
    for width in [360, 820, 1440] {
        for scheme in ["light", "dark"] {
            let when = format!("{width} wide, {scheme}");
            browser.size(width);
            browser.open(server.admin());
            browser.media("prefers-color-scheme", scheme);
            browser.wait("document.querySelectorAll('#dots circle').length === 100");
            browser.wait("document.querySelector('#graph .edge.up') && document.querySelector('#graph .edge.down')");
            browser.wait("document.getElementById('land').getAttribute('d').length > 10000");
            browser.wait("document.querySelectorAll('#log p').length > 10");
            let fits = "document.documentElement.scrollWidth <= innerWidth";
            assert_eq!(browser.evaluate(fits), json!(true), "{when}");
            browser.assert_no_problems(server.admin(), &when);
            assert_eq!(browser.act(&json!({ "act": "axe" })), json!([]), "{when}");
            browser.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)");
            browser.wait("document.getElementById('clients-rows').rows.length === 100");
            assert_eq!(browser.evaluate(fits), json!(true), "{when}, all tables open");
            assert_eq!(browser.act(&json!({ "act": "axe" })), json!([]), "{when}, all tables open");
            browser.press("?");
            browser.wait("document.getElementById('keys').open");
            assert_eq!(browser.act(&json!({ "act": "axe" })), json!([]), "{when}, the keys shown");
        }
    }
    Ok(())
}

pub fn a_stopped_neighbour_is_shown_as_down_and_an_update_of_another_process_moves_its_dot()
-> Outcome {
    let mut browser = Browser::start()?;
    let (_setup, goloman, hands) = two();
    let mut client = hands.client();
    browser.open(goloman.admin());
    browser.wait(&format!("{LINK_STATE} === 'up'"));
    browser.wait("document.querySelector('#graph .of-edge.up')?.textContent === 'up'");
    client.ask("IAMAT kiwi +34.0-118.0 1559865055.9");
    browser.wait("document.querySelector('#dots circle')?.getAttribute('cx') === '-1180.0'");
    let begin = Instant::now();
    client.ask("IAMAT kiwi -33.5+151.2 1559865056.9");
    browser.wait("document.querySelector('#dots circle').getAttribute('cx') === '1512.0'");
    println!("an update was shown after {:?}", begin.elapsed());
    assert_eq!(
        browser.evaluate("document.querySelector('#dots circle').getAttribute('cy')"),
        json!("335.0")
    );
    browser.wait("document.getElementById('map-text').textContent.includes('kiwi at 33.5000° S, 151.2000° E')");
    hands.hold();
    let begin = Instant::now();
    browser.wait(&format!("{LINK_STATE} === 'down'"));
    println!("down was shown after {:?}, with a heartbeat of 1 s", begin.elapsed());
    browser
        .wait("document.querySelector('#graph .of-edge.down').textContent.startsWith('down for')");
    browser.wait(
        "document.querySelector('#graph .edge.down') && !document.querySelector('#graph .edge.up')",
    );
    browser.wait("document.querySelector('#links-rows td:last-child').textContent.length > 5");
    browser.wait("document.getElementById('news').textContent.includes('Link with Hands is down')");
    hands.signal(Signal::CONT);
    browser.wait(&format!("{LINK_STATE} === 'up'"));
    browser.wait("document.getElementById('news').textContent.includes('Link with Hands is up')");
    browser.assert_no_problems(goloman.admin(), "at the end");
    Ok(())
}

pub fn the_state_directory_and_the_engine_are_shown_in_three_widths_and_a_change_is_announced()
-> Outcome {
    let mut browser = Browser::start()?;
    let nats = Nats::one(Release::Current)?;
    let setup = Setup::alone().section("[state]\ndir = \".\"\nack = \"disk\"");
    let setup = setup.section(&nats.section(""));
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    assert_eq!(server.client().ask("IAMAT kiwi +1.0+2.0 1"), "AT AT kiwi +1.0+2.0 1");
    let rows = "[...document.querySelectorAll('#kept-rows tr')].map(row => row.innerText)";
    for width in [360, 820, 1440] {
        browser.size(width);
        browser.open(server.admin());
        browser.wait("document.querySelectorAll('#kept-rows td.up').length === 2");
        let texts = browser.evaluate(&format!("{rows}.join(';')"));
        let texts = texts.as_str().expect("a text");
        for part in
            ["works", "nothing", "wait for it", "last commit", "in sync", "NATS ", "at 127.0.0.1:"]
        {
            assert!(texts.contains(part), "{part}: {texts}");
        }
        let fits = "document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(browser.evaluate(fits), json!(true), "{width} wide");
        assert_eq!(browser.act(&json!({ "act": "axe" })), json!([]), "{width} wide");
    }
    nats.nodes[0].kill();
    browser.wait("document.querySelector('#kept-rows td.down')?.textContent === 'disconnected'");
    browser.wait(&format!("{rows}[1].includes('Connection refused')"));
    browser.wait(
        "document.getElementById('news').textContent.includes('State of the engine: disconnected')",
    );
    let mut client = server.client();
    client.send("IAMAT kiwi +1.0+2.0 2\n");
    browser.wait("document.getElementById('kept-text').textContent.startsWith('1 answer waits')");
    nats.nodes[0].start();
    assert_eq!(client.line(), "AT AT kiwi +1.0+2.0 2");
    browser.wait("document.getElementById('kept-text').textContent.startsWith('0 answers wait')");
    browser.assert_no_problems(server.admin(), "at the end");
    Ok(())
}

pub fn ids_of_an_attacker_are_shown_as_text() -> Outcome {
    let mut browser = Browser::start()?;
    let setup = Setup::alone();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    browser.open(server.admin());
    let mut client = server.client();
    let attack = "<img/src=x/onerror=document.title=1>";
    for id in [attack.as_bytes(), b"</script><script>document.title=1</script>", &[0xff; 256]] {
        client.send([b"IAMAT ", id, b" +1.0+2.0 1559865055.9\n"].concat());
        assert!(client.line_bytes().starts_with(b"AT "));
    }
    browser.evaluate("document.getElementById('clients-details').open = true");
    browser.wait("document.getElementById('clients-rows').rows.length === 3");
    let texts = browser
        .evaluate("[...document.querySelectorAll('#clients-rows th')].map(it => it.textContent)");
    assert_eq!(
        texts,
        json!(["</script><script>document.title=1</script>", attack, "\\xff".repeat(256)])
    );
    let in_log = format!(
        "[...document.querySelectorAll('#log .text')].some(it => it.textContent.includes({}))",
        json!(attack)
    );
    browser.wait(&in_log);
    let titles = "[...document.querySelectorAll('#dots title')].map(it => it.textContent).includes";
    browser.wait(&format!("{titles}({})", json!(attack)));
    assert_eq!(browser.evaluate("document.title"), json!("Goloman · herd-mio"));
    assert_eq!(browser.evaluate("document.images.length"), json!(1), "that of the page itself");
    assert_eq!(browser.evaluate("document.scripts.length"), json!(1));
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), json!(true));
    browser.assert_no_problems(server.admin(), "with all ids shown");
    Ok(())
}

/// What can be pressed, opened, chosen or scrolled, and is shown.
const CONTROLS: &str =
    "[...document.querySelectorAll('a, button, select, summary, [tabindex=\"0\"]')]
    .filter(it => it.getAttribute('tabindex') !== '-1' && it.checkVisibility())";

pub fn everything_is_reached_by_keyboard_and_said_in_the_accessibility_tree() -> Outcome {
    let mut browser = Browser::start()?;
    let (_setup, goloman, hands) = two();
    let mut client = hands.client();
    client.ask("IAMAT kiwi +34.0-118.0 1559865055.9");
    browser.open(goloman.admin());
    browser.wait(&format!("{LINK_STATE} === 'up'"));
    // Each control by its place among all, in the order in which Tab comes to it.
    let count = browser.evaluate(&format!("{CONTROLS}.length")).as_u64().expect("a number");
    assert!(count >= 8, "{count}");
    for place in 0..count {
        browser.press("Tab");
        let here = format!("{CONTROLS}.indexOf(document.activeElement)");
        assert_eq!(browser.evaluate(&here), json!(place));
        let outline = "getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(browser.evaluate(outline), json!("solid"), "of control {place}");
    }
    browser.evaluate("document.activeElement.blur()");
    browser.tab_to("#clients-details summary");
    browser.press("Enter");
    for (role, words) in [
        ("heading", "Goloman"),
        ("image", "1 client known. The latest change: kiwi at 34.0000° N, 118.0000° W."),
        ("rowheader", "kiwi"),
        ("cell", "34.0000° N"),
        ("rowheader", "Hands"),
        ("cell", "up"),
        ("image", "p50"),
        ("log", "Log"),
    ] {
        browser.wait_for_tree(role, words);
    }
    client.ask("IAMAT kiwi -33.5+151.2 1559865056.9");
    browser.wait_for_tree("cell", "33.5000° S");
    hands.hold();
    browser.wait_for_tree("cell", "down for");
    browser.wait_for_tree("StaticText", "Link with Hands is down");
    hands.signal(Signal::CONT);
    browser.wait_for_tree("StaticText", "Link with Hands is up");
    browser.wait_for_tree("cell", "up");
    // Space pauses, where it does not press a button, and again goes on.
    browser.evaluate("document.activeElement.blur()");
    browser.press("Space");
    browser.wait_for("paused");
    browser.wait_for_tree("button", "Go on");
    browser.press("Space");
    browser.wait_for("connected");
    browser.press("?");
    browser.wait_for_tree("dialog", "Keys");
    browser.press("Escape");
    browser.wait("!document.getElementById('keys').open");
    browser.tab_to("#level");
    browser.press("ArrowDown");
    browser.wait("document.getElementById('log').dataset.level === 'info'");
    Ok(())
}

pub fn the_log_is_filtered_by_level_and_can_be_held() -> Outcome {
    let mut browser = Browser::start()?;
    let setup = Setup::star(&["Hands"]);
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    browser.open(server.admin());
    let mut client = server.client();
    client.ask("IAMAT kiwi +34.0-118.0 1559865055.9");
    let shown = |words: &str| {
        format!(
            "[...document.querySelectorAll('#log p')].some(it => it.offsetHeight > 0 && it.textContent.includes('{words}'))"
        )
    };
    browser.wait(&shown("INFOclientReceived from"));
    browser.wait(&shown("WARNINGlink"));
    browser.evaluate("document.getElementById('level').value = 'warning'; document.getElementById('level').dispatchEvent(new Event('change'))");
    assert_eq!(browser.evaluate(&shown("Received from")), json!(false));
    assert_eq!(browser.evaluate(&shown("WARNINGlink")), json!(true));
    browser.evaluate("document.getElementById('level').value = 'debug'; document.getElementById('level').dispatchEvent(new Event('change'))");
    browser.evaluate("document.getElementById('log-pause').click()");
    client.ask("IAMAT koala +34.0-118.0 1559865055.9");
    browser.wait("document.querySelectorAll('#dots circle').length === 2");
    assert_eq!(browser.evaluate(&shown("koala")), json!(false));
    browser.evaluate("document.getElementById('log-pause').click()");
    browser.wait(&shown("koala"));
    // More than are shown.
    for number in 0..150 {
        client.ask(&format!("IAMAT client-{number} +34.0-118.0 1559865055.9"));
    }
    browser.wait(&shown("client-149"));
    browser.wait("document.querySelectorAll('#log p').length === 200");
    Ok(())
}

pub fn a_server_that_was_started_again_is_shown_without_a_reload_by_hand() -> Outcome {
    let mut browser = Browser::start()?;
    let setup = Setup::alone();
    let port = reserve();
    let admin = port.number.to_string();
    let server = setup.start_with("Goloman", &["--admin", &admin]);
    browser.open(server.admin());
    let epoch = "document.getElementById('run').textContent.match(/epoch ([0-9a-f]{16})/)?.[1]";
    let before = browser.evaluate(epoch);
    server.kill();
    browser.wait_for("not connected");
    let server = setup.start_with("Goloman", &["--admin", &admin]);
    browser.wait(&format!("{epoch} !== {before}"));
    browser.wait_for("connected");
    // One that stops says so.
    assert_eq!(server.stop().code(), Some(0));
    browser.wait_for("not connected");
    let _server = setup.start_with("Goloman", &["--admin", &admin]);
    browser.wait_for("connected");
    Ok(())
}

pub fn in_the_background_the_page_closes_its_stream_and_comes_back() -> Outcome {
    let mut browser = Browser::start()?;
    let setup = Setup::alone();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    browser.act(&json!({ "act": "open", "url": url(server.admin()), "quick": true }));
    browser.wait_for("connected");
    let hide = |is_hidden: bool| {
        format!(
        "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }});
         document.dispatchEvent(new Event('visibilitychange'))"
    )
    };
    browser.evaluate(&hide(true));
    browser.wait_for("asleep");
    server.client().ask("IAMAT kiwi +34.0-118.0 1559865055.9");
    browser.evaluate(&hide(false));
    browser.wait_for("connected");
    browser.wait("document.querySelectorAll('#dots circle').length === 1");
    Ok(())
}

pub fn without_scripts_the_tables_are_there() -> Outcome {
    let mut browser = Browser::start()?;
    let (_setup, goloman, _hands) = two();
    goloman.wait_for_log("The link to Hands is up");
    browser.size(360);
    browser.act(&json!({ "act": "open", "url": url(goloman.admin()), "script": false }));
    browser.wait_for_tree("rowheader", "Hands");
    browser.wait_for_tree("cell", "up");
    browser.wait_for_tree("link", "connections");
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), json!(true));
    Ok(())
}

pub fn motion_and_colours_follow_the_operators_settings() -> Outcome {
    let mut browser = Browser::start()?;
    let (_setup, goloman, hands) = two();
    hands.client().ask("IAMAT kiwi +34.0-118.0 1559865055.9");
    browser.open(goloman.admin());
    browser.wait("document.querySelectorAll('#dots circle').length === 1");
    browser.media("prefers-reduced-motion", "reduce");
    let moved = "const dot = document.querySelector('#dots circle'); dot.classList.add('moved'); getComputedStyle(dot).animationName";
    assert_eq!(
        browser.evaluate(&format!(
            "(() => {{ {} }})()",
            moved.replace("getComputed", "return getComputed")
        )),
        json!("none")
    );
    browser.media("forced-colors", "active");
    let stroke = "getComputedStyle(document.querySelector('#graph .edge')).stroke";
    let text = "getComputedStyle(document.body).color";
    assert_eq!(browser.evaluate(stroke), browser.evaluate(text), "lines are as visible as text");
    assert_eq!(browser.act(&json!({ "act": "axe" })), json!([]));
    Ok(())
}

/// The growth of the page's heap while clients move all the time, between the end of the first part and the end.
fn heap_growth(time: Duration) -> Result<f64, Missing> {
    let mut browser = Browser::start()?;
    let (_setup, goloman, _hands) = two();
    browser.open(goloman.admin());
    let mut client = goloman.client();
    let begin = Instant::now();
    let mut early = None;
    let mut round = 0_u64;
    while begin.elapsed() < time {
        round += 1;
        for number in 0..100 {
            let (latitude, longitude) = ((round + number) % 80, (round * 3 + number) % 170);
            let line = format!(
                "IAMAT client-{} +{latitude:02}.5+{longitude:03}.5 {round}.5",
                number + round % 7 * 100
            );
            client.ask(&line);
        }
        if early.is_none() && begin.elapsed() > time / 5 {
            early = Some(browser.heap());
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    browser.wait("document.querySelectorAll('#dots circle').length === 700");
    Ok(browser.heap() - early.expect("it was looked at"))
}

pub fn the_heap_stays_flat() -> Outcome {
    let growth = heap_growth(Duration::from_secs(10))?;
    println!("the heap has grown by {:.1} MB", growth / 1e6);
    assert!(growth < 20e6, "{growth}");
    Ok(())
}

pub fn the_heap_stays_flat_for_an_hour() -> Outcome {
    let seconds = std::env::var(SECONDS).ok().map(|it| it.parse().expect("a number of seconds"));
    let growth = heap_growth(Duration::from_secs(seconds.unwrap_or(3_600)))?;
    println!("the heap has grown by {:.1} MB", growth / 1e6);
    assert!(growth < 20e6, "{growth}");
    Ok(())
}
