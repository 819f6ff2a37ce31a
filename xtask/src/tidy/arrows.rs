//! Which crate may lean on which, and that the pure ones stay pure.

use super::Finding;
use super::source::Source;

/// A crate and what of the workspace it may depend on. Dev-dependencies may also name the simulator.
const ARROWS: &[(&str, &[&str])] = &[
    ("tallygate-core", &[]),
    ("tallygate-tokens", &["tallygate-core"]),
    ("tallygate-store", &["tallygate-core"]),
    (
        "tallygate-server",
        &["tallygate-core", "tallygate-tokens", "tallygate-store"],
    ),
    (
        "tallygate-sim",
        &["tallygate-core", "tallygate-tokens", "tallygate-store"],
    ),
    (
        "tallygate",
        &[
            "tallygate-core",
            "tallygate-tokens",
            "tallygate-store",
            "tallygate-server",
            "tallygate-sim",
        ],
    ),
    (
        "tallygate-python",
        &["tallygate-core", "tallygate-tokens", "tallygate-store"],
    ),
    ("xtask", &[]),
];

const PURE: [&str; 2] = ["tallygate-core", "tallygate-tokens"];

/// Crates that do IO, wait, read clocks or roll dice.
const IMPURE_CRATES: &[&str] = &[
    "async-std",
    "axum",
    "fastrand",
    "futures",
    "futures-util",
    "getrandom",
    "hyper",
    "log",
    "rand",
    "reqwest",
    "smol",
    "tokio",
    "tracing",
    "ureq",
];

/// The same in the standard library.
const IMPURE_PATHS: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "println!",
    "eprintln!",
    "thread_local!",
    "RandomState",
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let manifests = sources
        .iter()
        .filter(|source| source.path.ends_with("/Cargo.toml") && !source.path.starts_with("fuzz/"));
    let mut findings: Vec<Finding> = manifests.flat_map(check_manifest).collect();
    findings.extend(
        sources
            .iter()
            .filter(|source| is_pure(source))
            .flat_map(check_purity),
    );
    findings
}

fn check_manifest(manifest: &Source) -> Vec<Finding> {
    let name = manifest
        .path
        .trim_end_matches("/Cargo.toml")
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        let mend = "give it its arrows in xtask/src/tidy/arrows.rs, as ARCHITECTURE.md draws them";
        return vec![Finding {
            place: manifest.path.clone(),
            what: format!("crate `{name}` has no place"),
            mend,
        }];
    };
    let mut findings = Vec::new();
    let mut section = String::new();
    for (number, line) in manifest.lines() {
        if let Some(header) = line.trim().strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
        } else if let Some(to) = dependency(&section, line) {
            let finding = |what, mend| Finding {
                place: format!("{}:{number}", manifest.path),
                what,
                mend,
            };
            let ours = ARROWS.iter().any(|(crate_name, _)| *crate_name == to);
            let for_tests = section.contains("dev-dependencies") && to == "tallygate-sim";
            if ours && !allowed.contains(&to) && !for_tests {
                findings.push(finding(
                    format!("{name} depends on {to}"),
                    "move the code to the side the arrows allow",
                ));
            }
            if PURE.contains(&name) && !section.contains("dev-") && IMPURE_CRATES.contains(&to) {
                findings.push(finding(
                    format!("pure {name} depends on {to}"),
                    "pass what it needs as an argument",
                ));
            }
        }
    }
    findings
}

/// The crate that a line of a manifest's dependency section names.
fn dependency<'a>(section: &str, line: &'a str) -> Option<&'a str> {
    if !section.ends_with("dependencies") || line.trim_start().starts_with('#') {
        return None;
    }
    let (key, _) = line.split_once('=')?;
    key.trim().split('.').next().filter(|name| !name.is_empty())
}

fn is_pure(source: &Source) -> bool {
    source.is_rust()
        && !source.is_test_file()
        && PURE
            .iter()
            .any(|name| source.path.starts_with(&format!("crates/{name}/src/")))
}

fn check_purity(source: &Source) -> Vec<Finding> {
    let code = source
        .lines()
        .filter(|(number, line)| !source.in_tests(*number) && !line.trim_start().starts_with("//"));
    code.flat_map(|(number, line)| {
        IMPURE_PATHS
            .iter()
            .filter(move |path| line.contains(**path))
            .map(move |path| Finding {
                place: format!("{}:{number}", source.path),
                what: format!("`{path}` in a pure crate"),
                mend: "pass what it needs as an argument",
            })
    })
    .collect()
}
