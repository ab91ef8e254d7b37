//! The Dockerfile names what there is: no test builds it, since that takes twenty minutes (`e2e/dockerfile.sh`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// Words of the Dockerfile that follow such a word, or begin so.
fn words(dockerfile: &str, before: &str, prefix: &str) -> BTreeSet<String> {
    let words: Vec<&str> = dockerfile.split_whitespace().collect();
    let found = words.windows(2).filter(|pair| before.is_empty() || pair[0] == before);
    found.filter_map(|pair| pair[1].strip_prefix(prefix)).map(str::to_owned).collect()
}

#[test]
fn the_dockerfile_builds_and_copies_programs_that_there_are() {
    let dockerfile = read("Dockerfile");
    let built = words(&dockerfile, "--bin", "");
    assert_eq!(built, words(&dockerfile, "", "target/image/"), "what is built is what is copied");
    for program in &built {
        let manifest = read(&format!("{}/Cargo.toml", program.trim_start_matches("unimodel-")));
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{program}\"\n")), "{program}: {manifest}");
    }
    let pods = ["charts/unimodel/templates/deployment.yaml", "operator/src/cluster/children/gateway.rs"];
    let pods = pods.into_iter().chain(["operator/src/cluster/children/server.rs"]).map(read);
    let begun = |text: String| {
        let (_, program) = text.split_once("/usr/bin/").unwrap();
        program[..program.find(|c: char| c != '-' && !c.is_ascii_lowercase()).unwrap()].to_owned()
    };
    assert_eq!(pods.map(begun).collect::<BTreeSet<_>>(), built, "what pods begin with is in the image");
}

#[test]
fn the_dockerfile_has_the_scripts_and_the_compiler_of_the_repository() {
    let dockerfile = read("Dockerfile");
    let scripts = words(&dockerfile, "", "scripts/");
    assert!(!scripts.is_empty());
    for script in scripts {
        assert!(root().join("scripts").join(&script).is_file(), "scripts/{script}");
    }
    let ignored = read(".dockerignore");
    assert_eq!(ignored.lines().collect::<Vec<_>>(), ["target", "data", ".git", "**/node_modules"]);
    let toolchain = read("rust-toolchain.toml");
    let (_, release) = dockerfile.split_once("ARG BUILDER=rust:").unwrap();
    let (release, _) = release.split_once('-').unwrap();
    assert!(toolchain.contains(&format!("channel = \"{release}.")), "{release}: {toolchain}");
}
