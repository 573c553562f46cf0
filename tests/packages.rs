//! Claim: what the packages are made of exists, is of this version, and holds a configuration that the program accepts.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::program::{herd_mio, text};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    let whole = Path::new(PROJECT).join(path);
    fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `[package.metadata.deb]`
fn debian() -> toml::Table {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    manifest["package"]["metadata"]["deb"].as_table().expect("a table").clone()
}

/// What the package has: the path in the project, and the path on a host.
fn assets() -> Vec<(String, String)> {
    let debian = debian();
    let assets = debian["assets"].as_array().expect("a list").iter();
    let word = |asset: &toml::Value, at: usize| asset[at].as_str().expect("text").to_owned();
    assets.map(|asset| (word(asset, 0), word(asset, 1))).collect()
}

#[test]
fn the_debian_package_has_what_exists_and_all_of_it() {
    let assets = assets();
    for (source, _) in &assets {
        let folder = source.strip_suffix("/*").or(source.strip_suffix("/*.md"));
        let is_built = source.starts_with("target/release/");
        let path = Path::new(PROJECT).join(folder.unwrap_or(source));
        assert!(is_built || path.exists(), "{source}");
    }
    for installed in [
        "usr/bin/",
        "etc/herd-mio/",
        "etc/logrotate.d/",
        "usr/lib/systemd/system/",
        "usr/lib/sysusers.d/herd-mio.conf",
        "usr/share/man/man1/",
        "usr/share/man/man5/",
        // Where each shell looks for them.
        "usr/share/bash-completion/completions/herd-mio",
        "usr/share/fish/vendor_completions.d/herd-mio.fish",
        "usr/share/zsh/vendor-completions/_herd-mio",
    ] {
        assert!(assets.iter().any(|(_, path)| path == installed), "{installed}");
    }
    for folder in ["contrib/man", "contrib/logrotate", "contrib/prometheus", "contrib/systemd"] {
        let files = fs::read_dir(Path::new(PROJECT).join(folder)).into_iter().flatten().flatten();
        for file in files.map(|file| format!("{folder}/{}", file.file_name().to_string_lossy())) {
            let has = |(source, _): &(String, String)| {
                *source == file || *source == format!("{folder}/*")
            };
            assert!(assets.iter().any(has), "{file}");
        }
    }
}

#[test]
fn the_debian_package_is_of_this_version_and_names_whose_data_it_has() {
    let version = concat!("herd-mio (", env!("CARGO_PKG_VERSION"), "-1) ");
    assert!(read("contrib/debian/changelog").starts_with(version));
    let copyright = read("contrib/debian/copyright");
    for owner in ["The herd-mio authors", "GeoNames", "Natural Earth", "Michael Bostock"] {
        assert!(copyright.contains(owner), "{owner}");
    }
    // The first words of a paragraph of the licence stand there unbroken.
    let licence = read("LICENSE")
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect::<Vec<_>>();
    for line in &licence[2..] {
        assert!(copyright.contains(&format!("\n {line}\n")), "{line}");
    }
    for file in ["src/places/gazetteer.tsv.gz", "src/server/admin/page/land.svg"] {
        assert!(copyright.contains(&format!("Files: {file}\n")), "{file}");
        assert!(Path::new(PROJECT).join(file).exists(), "{file}");
    }
}

#[test]
fn the_maintainer_scripts_are_valid_and_start_nothing() {
    let folder = Path::new(PROJECT).join("contrib/debian/scripts");
    for script in fs::read_dir(folder).expect("the folder").flatten().map(|script| script.path()) {
        let syntax = Command::new("sh").arg("-n").arg(&script).stdin(Stdio::null()).output();
        let syntax = syntax.expect("a shell");
        assert!(syntax.status.success() && syntax.stderr.is_empty(), "{}", text(&syntax.stderr));
        let words = fs::read_to_string(&script).expect("text");
        for line in words.lines().filter(|line| !line.trim_start().starts_with('#')) {
            for command in ["enable", "start", "deb-systemd-helper", "deb-systemd-invoke"] {
                assert!(!line.contains(command), "{}: {line}", script.display());
            }
        }
    }
}

/// The Dockerfile compiles in a folder that has only what the list of exceptions names.
#[test]
fn the_context_of_the_image_is_enough_for_cargo() {
    let ignored = read("contrib/image/Dockerfile.dockerignore");
    let entries: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let context = tempfile::tempdir().expect("a folder");
    for entry in entries.iter().filter(|entry| **entry != "target/image") {
        let source = Path::new(PROJECT).join(entry);
        assert!(source.exists(), "{entry}");
        let link = context.path().join(entry);
        fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        std::os::unix::fs::symlink(source, link).expect("a link");
    }
    // It looks for the file of each test, bench and example first. What it may lack then is a crate of another platform.
    let words = ["fetch", "--offline", "--locked"];
    let output = Command::new(env!("CARGO")).args(words).current_dir(context.path()).output();
    let said = text(&output.expect("cargo runs").stderr);
    for fault in ["manifest", "lock file", "can't find"] {
        assert!(!said.contains(fault), "{said}");
    }
    let dockerfile = read("contrib/image/Dockerfile");
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY "));
    let of_context = copied.filter(|words| !words.starts_with("--from") && *words != ". .");
    for words in of_context {
        for file in words.split(' ').rev().skip(1) {
            assert!(entries.iter().any(|entry| file.starts_with(entry)), "{file} is left out");
        }
    }
}

#[test]
fn the_configurations_in_packages_are_valid_and_bring_no_warning() {
    for path in ["contrib/debian/herd.toml", "contrib/image/herd.toml"] {
        let whole = Path::new(PROJECT).join(path);
        let checked = herd_mio(&["--check", "--config", whole.to_str().expect("text")]);
        let said = format!("{}{}", text(&checked.stdout), text(&checked.stderr));
        assert!(checked.status.success(), "{path}: {said}");
        // The image serves clients of other hosts, and has no certificate of its own.
        assert!(path.contains("image") || !said.contains("warning:"), "{path}: {said}");
    }
}
