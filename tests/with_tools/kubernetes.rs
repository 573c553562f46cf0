//! The files of `contrib/kubernetes` are valid for Kubernetes, name each other by the right names, and hold a
//! configuration with which a herd runs. No cluster has run them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use herd_mio::config::{Accept, Config, OnSigterm, Overrides};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::hosts::Hosts;
use crate::common::needs::{Missing, Outcome, python_with, tool};
use crate::common::program::{herd_mio, text};
use crate::common::{LIMIT, wait_until};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/kubernetes");
/// The version whose schemas the files must fit.
const VERSION: &str = "1.30";
const VALIDATOR: (&str, &str) = ("kubernetes_validate", "pip, as kubernetes-validate");
/// Supervisors kill a server that is slower than this behind `drain_duration`.
const PATIENCE_SECS: u64 = 15;

pub fn the_files_fit_the_schemas_and_a_wrong_type_does_not() -> Outcome {
    let validate = |files: &[&Path]| {
        let mut python = python_with(VALIDATOR.0, VALIDATOR.1)?;
        python.args(["-m", "kubernetes_validate", "--strict", "-k", VERSION]).args(files);
        Ok(python.output().expect("it runs"))
    };
    let entries = fs::read_dir(FOLDER).expect("the folder").flatten();
    let files: Vec<_> = entries.map(|entry| entry.path()).collect();
    let files: Vec<&Path> = files.iter().map(|path| path.as_path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    let output = validate(&files)?;
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));

    let folder = tempfile::tempdir().expect("a folder");
    let wrong = folder.path().join("statefulset.yaml");
    let right = fs::read_to_string(Path::new(FOLDER).join("statefulset.yaml")).expect("the file");
    fs::write(&wrong, right.replace("replicas: 3", "replicas: \"3\"")).expect("a file");
    assert!(!validate(&[&wrong])?.status.success(), "a number as a text is refused");
    Ok(())
}

/// The configuration of the ConfigMap and its certificates, in folders as a pod has them.
struct Mounted {
    folder: TempDir,
    config: String,
}

impl Mounted {
    fn new(objects: &Value) -> Mounted {
        let config = objects["ConfigMap/herd-config"]["data"]["herd.toml"].as_str().expect("text");
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Mounted { folder, config: config.to_owned() };
        fs::create_dir(mounted.folder.path().join("config")).expect("a folder");
        fs::write(mounted.path("config/herd.toml"), config).expect("a file");
        let (tls, config) = (mounted.path("tls"), mounted.path("config/herd.toml"));
        let made = herd_mio(&["--make-certificates", &tls, "--config", &config]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        mounted
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").to_owned()
    }
}

pub fn the_configuration_is_valid_and_names_the_pods() -> Outcome {
    let objects = objects()?;
    let set = &objects["StatefulSet/herd"]["spec"];
    let mounted = Mounted::new(&objects);
    let path = mounted.path("config/herd.toml");
    let checked = herd_mio(&["--check", "--config", &path]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(!text(&checked.stdout).contains("warning:"), "{}", text(&checked.stdout));

    let (path, overrides) = (Path::new(&path), Overrides::default());
    let config = Config::from_text(&mounted.config, path, &overrides, false).expect("valid");
    let names: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    let replicas = set["replicas"].as_u64().expect("a number");
    let pods: Vec<String> = (0..replicas).map(|number| format!("herd-{number}")).collect();
    assert_eq!(names, pods);
    let peers = set["serviceName"].as_str().expect("text");
    for server in &config.servers {
        assert_eq!(server.advertise, format!("{}.{peers}:22138", server.name));
    }
    assert!(config.tls.neighbours.accept == Accept::Tls && config.tls.neighbours.dials_tls);
    assert_eq!(config.stop.on_sigterm, OnSigterm::Drain);
    let patience = pod(&objects)["terminationGracePeriodSeconds"].as_u64().expect("a number");
    assert!(patience >= config.stop.drain_duration.as_secs() + PATIENCE_SECS);
    Ok(())
}

/// A host for each pod, and names as the Services give them. It is not a cluster: nothing is scheduled or replaced.
pub fn the_herd_runs_on_three_hosts_and_answers_the_probes() -> Outcome {
    let objects = objects()?;
    for program in ["curl", "socat", "timeout"] {
        tool(program)?;
    }
    let hosts = Hosts::new(3)?;
    let mounted = Mounted::new(&objects);
    let names = mounted.path("hosts");
    let line = |number: usize| format!("10.77.0.{} herd-{number}.herd-peers\n", number + 1);
    fs::write(&names, (0..3).map(line).collect::<String>()).expect("a file");
    let on = |number: usize, program: &str, words: &[&str]| {
        let mut command = hosts.command_with(number, Path::new(&names), program);
        command.args(words).stdin(Stdio::null());
        command
    };
    let _servers: Vec<Served> = (0..3).map(|number| start(&mounted, number, on)).collect();

    // As a kubelet asks: at the address of the pod, whatever name its certificate has.
    let status = |number: usize, path: &str| {
        let url = format!("https://10.77.0.{}:32138{path}", number + 1);
        let words = ["-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url];
        text(&on(0, "curl", &words).output().expect("ip runs").stdout)
    };
    for number in 0..3 {
        let what = format!("herd-{number} is ready");
        wait_until(LIMIT, &what, || status(number, "/readyz") == "200");
        assert_eq!(status(number, "/livez"), "200");
        assert_eq!(status(number, "/metrics"), "403", "that needs a certificate");
    }
    let authority = mounted.path("tls/herd-ca.pem");
    let says = |number: usize, line: &str| {
        let address = format!("OPENSSL:herd-{number}.herd-peers:12138,cafile={authority}");
        let script = format!("echo '{line}' | timeout 20 socat -t5 - '{address}'");
        text(&on(0, "sh", &["-c", &script]).output().expect("ip runs").stdout)
    };
    assert_eq!(says(0, "IAMAT kiwi +1.0-2.0 1"), "AT AT kiwi +1.0-2.0 1\n");
    for number in 1..3 {
        wait_until(LIMIT, &format!("herd-{number} knows it"), || {
            says(number, "WHATSAT kiwi 0 0").starts_with("AT AT kiwi +1.0-2.0 1\n")
        });
    }
    let log = fs::read_to_string(mounted.path("herd-0")).expect("a log");
    assert!(log.lines().any(|line| line.starts_with('{') && line.contains("kiwi")), "{log}");
    Ok(())
}

/// The server of a pod, which logs to standard error.
fn start(mounted: &Mounted, number: usize, on: impl Fn(usize, &str, &[&str]) -> Command) -> Served {
    let (name, config) = (format!("herd-{number}"), mounted.path("config/herd.toml"));
    let log = fs::File::create(mounted.path(&name)).expect("a file");
    let words = ["--server", &name, "--config", &config];
    let mut server = on(number, env!("CARGO_BIN_EXE_herd-mio"), &words);
    Served(server.stdout(Stdio::null()).stderr(log).spawn().expect("ip runs"))
}

/// A process that ends with the test.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

pub fn the_objects_name_each_other_and_give_no_privileges() -> Outcome {
    let objects = objects()?;
    let (set, pod) = (&objects["StatefulSet/herd"]["spec"], pod(&objects));
    let labels = &set["template"]["metadata"]["labels"];
    let peers = &objects[&format!("Service/{}", set["serviceName"].as_str().expect("text"))];
    assert_eq!(peers["spec"]["clusterIP"], "None");
    assert_eq!(peers["spec"]["publishNotReadyAddresses"], true);
    assert_eq!(objects["Service/herd"]["spec"].get("publishNotReadyAddresses"), None);
    assert_eq!(set["podManagementPolicy"], "Parallel");
    for selector in [
        &set["selector"]["matchLabels"],
        &peers["spec"]["selector"],
        &objects["Service/herd"]["spec"]["selector"],
        &objects["PodDisruptionBudget/herd"]["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert_eq!(objects["PodDisruptionBudget/herd"]["spec"]["maxUnavailable"], 1);

    let container = &pod["containers"][0];
    let server = json!(["--server", "$(POD_NAME)", "--config", "/herd/config/herd.toml"]);
    assert_eq!(container["args"], server);
    let ports = json!([
        {"name": "clients", "containerPort": 12138},
        {"name": "peers", "containerPort": 22138},
        {"name": "admin", "containerPort": 32138},
    ]);
    assert_eq!(container["ports"], ports);
    for (probe, path) in [("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/livez")]
    {
        let request = json!({"path": path, "port": "admin", "scheme": "HTTPS"});
        assert_eq!(container[format!("{probe}Probe")]["httpGet"], request, "{probe}");
    }
    assert_eq!(container["livenessProbe"]["failureThreshold"], 6);
    let security = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], security);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let tls = &pod["volumes"][1]["secret"];
    assert_eq!(tls["defaultMode"].as_u64().expect("a number") & 0o007, 0, "keys are for the group");
    assert_eq!(tls["secretName"], "herd-tls");
    assert_eq!(objects.get("Secret/herd-tls"), None, "no key belongs into the project");
    Ok(())
}

/// All objects of the folder, by kind and name.
fn objects() -> Result<Value, Missing> {
    let mut python = python_with(VALIDATOR.0, VALIDATOR.1)?;
    let script = "import glob, json, sys, yaml\n\
                  every = [o for f in glob.glob(sys.argv[1] + '/*.yaml') for o in yaml.safe_load_all(open(f))]\n\
                  print(json.dumps({o['kind'] + '/' + o['metadata']['name']: o for o in every}))";
    let output = python.args(["-c", script, FOLDER]).output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout).expect("valid JSON"))
}

fn pod(objects: &Value) -> &Value {
    &objects["StatefulSet/herd"]["spec"]["template"]["spec"]
}
