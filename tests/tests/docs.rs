//! Documents and code say the same: error pages, paths, commands, configuration, topics, metrics, examples; and the
//! shape of services. `MESH_UPDATE=1 cargo test -p mesh-tests --test docs` writes the generated parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use regex::Regex;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file below `dir` whose name ends in one of `extensions`.
fn files(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
                found.push(path);
            }
        }
    }
    found
}

/// Whether a source file holds tests only.
fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.strip_prefix(root()).unwrap().iter().any(|part| part == "tests")
}

fn sources() -> Vec<PathBuf> {
    ["proto/src", "crates", "services", "cli/src"].iter().flat_map(|dir| files(&root().join(dir), &["rs"])).collect()
}

/// Codes that sources can give to a person: literals outside comments and tests.
fn codes_in_sources() -> BTreeSet<String> {
    let literal = Regex::new(r#""[^"]*?(MESH-[A-Z]+-\d{4})"#).unwrap();
    let tests = Regex::new(r"#\[cfg\(test\)\]\s(#\[allow.*\]\s)?(pub\(\w+\) )?mod \w+ \{").unwrap();
    let mut codes = BTreeSet::new();
    for path in sources().iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).unwrap();
        let text = &text[..tests.find(&text).map_or(text.len(), |found| found.start())];
        let code_lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code_lines {
            codes.extend(literal.captures_iter(line).map(|found| found[1].to_owned()));
        }
    }
    codes
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let pages: BTreeSet<String> = files(&root().join("docs/errors"), &["md"])
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("MESH-"))
        .collect();
    let codes = codes_in_sources();
    assert!(codes.len() > 20, "the pattern finds no codes any more: {codes:?}");
    let unexplained: Vec<_> = codes.difference(&pages).collect();
    let orphaned: Vec<_> = pages.difference(&codes).collect();
    assert!(unexplained.is_empty() && orphaned.is_empty(), "no page: {unexplained:?}; no code: {orphaned:?}");
}

#[test]
fn every_page_says_what_it_means_and_what_to_do() {
    for path in files(&root().join("docs/errors"), &["md"]) {
        let (name, text) =
            (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap());
        if !name.starts_with("MESH-") {
            continue;
        }
        assert!(text.starts_with(&format!("# {name}: ")), "{name}: the title is `# {name}: …`");
        for section in ["\n## What it means\n", "\n## What to do\n"] {
            let body = text.split(section).nth(1).map(|rest| rest.split("\n## ").next().unwrap().trim());
            assert!(body.is_some_and(|body| body.len() > 20), "{name}: `{}` is missing or empty", section.trim());
        }
    }
}

#[test]
fn every_path_in_the_documents_is_there() {
    let quoted =
        Regex::new(r"`((?:proto|crates|services|cli|tests|deploy|examples|docs|benches|\.ci)/[\w./{},*-]*)`").unwrap();
    let root = root();
    let mut documents = files(&root.join("docs"), &["md"]);
    documents.extend([root.join("README.md")]);
    let mut count = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for path in quoted.captures_iter(&text).map(|found| found[1].to_owned()) {
            count += 1;
            let plain = !path.contains(['{', '*']);
            assert!(!plain || root.join(&path).exists(), "{}: `{path}` does not exist", document.display());
        }
    }
    assert!(count > 20, "the pattern finds no paths any more");
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut documents = files(&root().join("docs"), &["md"]);
    documents.extend([root().join("README.md"), root().join("examples/nyc/data/DATA.md")]);
    let mut count = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()).filter(|to| !to.contains("://")) {
            count += 1;
            let (path, heading) = target.split_once('#').unwrap_or((&target, ""));
            let page = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            assert!(page.exists(), "{}: the link to {target} is dead", document.display());
            let there = heading.is_empty() || headings(&fs::read_to_string(&page).unwrap()).contains(heading);
            assert!(there, "{}: {target} is no heading", document.display());
        }
    }
    assert!(count > 50, "the pattern finds no links any more");
}

/// A page's headings as links name them.
fn headings(page: &str) -> BTreeSet<String> {
    let titles = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let plain = title.to_lowercase();
        let kept = plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    titles.map(anchor).collect()
}

#[test]
fn every_service_has_the_one_shape() {
    for service in ["ingest", "publisher", "quality", "query"] {
        let src = root().join("services").join(service).join("src");
        for file in ["main.rs", "lib.rs", "config.rs", "error.rs", "telemetry.rs", "pipeline.rs", "pipeline"] {
            assert!(src.join(file).exists(), "services/{service}/src/{file} is missing");
        }
        let main = fs::read_to_string(src.join("main.rs")).unwrap().lines().count();
        assert!(
            main <= 60,
            "services/{service}/src/main.rs has {main} lines: it only parses, builds, waits and drains"
        );
        for stage in files(&src.join("pipeline"), &["rs"]).iter().filter(|path| !is_test(path)) {
            let text = fs::read_to_string(stage).unwrap();
            assert!(text.starts_with("//!"), "{}: a stage says first what comes in and what goes out", stage.display());
        }
    }
}

#[test]
fn only_the_bus_is_unsafe() {
    let allowed = root().join("crates/bus/src/ffi.rs");
    let unsafe_code = Regex::new(r"\bunsafe\s*(\{|fn|impl|extern)").unwrap();
    for path in sources().into_iter().filter(|path| *path != allowed) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!unsafe_code.is_match(&text), "{}: unsafe code lives in crates/bus/src/ffi.rs only", path.display());
    }
}

/// The command line under test, which knows of no mesh.
fn mesh(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-under-test"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MESH_")) {
        command.env_remove(name);
    }
    command.args(args).current_dir(root()).output().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The fenced blocks of one language in a document.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = Regex::new(&format!(r"(?ms)^```{language}\n(.*?)^```$")).unwrap();
    fence.captures_iter(&read(document)).map(|found| found[1].to_owned()).collect()
}

/// A generated part of a document is what the code says; `MESH_UPDATE=1` writes it.
fn check_generated(document: &str, part: &str, expected: &str) {
    let text = read(document);
    let (begin, end) = (format!("<!-- begin: {part} -->\n"), format!("<!-- end: {part} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{document} has no {begin}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{document} has no {end}"));
    if std::env::var_os("MESH_UPDATE").is_some() {
        fs::write(root().join(document), [before, &begin, expected, &end, after].concat()).unwrap();
    } else {
        assert!(found == expected, "{document} is stale: MESH_UPDATE=1 cargo test -p mesh-tests --test docs");
    }
}

/// File name and title line of each page of a folder, in their order.
fn pages(dir: &str, title: &str) -> Vec<(String, String)> {
    let title = Regex::new(title).unwrap();
    let mut pages: Vec<_> = files(&root().join(dir), &["md"])
        .iter()
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .filter(|(name, _)| name != "README")
        .map(|(name, text)| {
            let found = title.captures(&text).unwrap_or_else(|| panic!("{dir}/{name}.md: the title is not {title}"));
            (name, found[1].to_owned())
        })
        .collect();
    pages.sort();
    pages
}

#[test]
fn the_index_of_decisions_lists_each() {
    let lines = pages("docs/decisions", r"^# \d{4}: (.+)\n").into_iter();
    let lines = lines.map(|(name, title)| format!("- [{}]({name}.md) {title}\n", &name[..4]));
    check_generated("docs/decisions/README.md", "decisions", &lines.collect::<String>());
}

#[test]
fn the_index_of_errors_lists_each_by_component() {
    let mut expected = String::new();
    let mut component = String::new();
    for (code, title) in pages("docs/errors", r"^# MESH-[A-Z]+-\d{4}: (.+)\n") {
        let of = code.split('-').nth(1).unwrap().to_owned();
        if of != component {
            expected.push_str(&format!("\n## {of}\n\n"));
            component = of;
        }
        expected.push_str(&format!("- [{code}]({code}.md) {title}\n"));
    }
    check_generated("docs/errors/README.md", "errors", &expected);
}

/// A control topic as `proto/src/topics.rs` lists it: name, partitions, how long it keeps, key, writer, what.
fn control_topics() -> Vec<[String; 6]> {
    let source = read("proto/src/topics.rs");
    let name = Regex::new(r#"pub const (\w+): &str = "([^"]+)";"#).unwrap();
    let names: BTreeMap<_, _> = name.captures_iter(&source).map(|c| (c[1].to_owned(), c[2].to_owned())).collect();
    let shards = Regex::new(r"SHARDS: i32 = (\d+)").unwrap().captures(&source).unwrap()[1].to_owned();
    let topic = Regex::new(r#"topic\((\w+), (\w+), Keep::(\w+)(?:\((\d+)\))?, "(.+?)", "(.+?)", "(.+?)"\)"#).unwrap();
    let topics: Vec<_> = topic
        .captures_iter(&source)
        .map(|c| {
            let partitions = if &c[2] == "SHARDS" { shards.clone() } else { c[2].to_owned() };
            let keeps = match (&c[3], c.get(4).map(|days| days.as_str())) {
                ("Compacted", _) => "newest per key".to_owned(),
                ("Forever", _) => "for ever".to_owned(),
                (_, Some("1")) => "1 day".to_owned(),
                (_, days) => format!("{} days", days.unwrap()),
            };
            [names[&c[1]].clone(), partitions, keeps, c[5].to_owned(), c[6].to_owned(), c[7].to_owned()]
        })
        .collect();
    assert_eq!(topics.len(), source.matches("    topic(").count(), "the pattern does not find every topic");
    topics
}

#[test]
fn the_guide_lists_the_control_topics() {
    let head = "| Topic | Key | Who writes | Partitions | Kept | What |\n|---|---|---|---|---|---|\n".to_owned();
    let rows = control_topics().into_iter().map(|[name, partitions, keeps, key, writer, what]| {
        format!("| `{name}` | {key} | {writer} | {partitions} | {keeps} | {what} |\n")
    });
    check_generated("docs/guides/real-kafka.md", "topics", &(head + &rows.collect::<String>()));
}

#[test]
fn each_control_topic_is_written_by_its_writer_alone() {
    let script = Command::new(root().join("deploy/kafka/acls.sh")).args(["--print", "sales"]).output().unwrap();
    let printed = String::from_utf8(script.stdout).unwrap();
    let write = Regex::new(r"--allow-principal User:([\w-]+) .*--operation Write .*--topic (mesh\.[\w.-]+)").unwrap();
    let mut found = BTreeSet::new();
    for rule in printed.lines().filter_map(|line| write.captures(line)) {
        found.insert((rule[2].to_owned(), rule[1].to_owned()));
    }
    let mut expected = BTreeSet::new();
    for [name, _, _, _, writer, _] in control_topics() {
        let writers: &[String] = match writer.as_str() {
            // Producers of domains trace their batches too.
            "all" => &["mesh-publisher", "mesh-ingest", "mesh-quality", "mesh-query", "sales"].map(str::to_owned),
            "–" => &[],
            some => &some.split(", ").map(|one| format!("mesh-{one}")).collect::<Vec<_>>(),
        };
        expected.extend(writers.iter().map(|writer| (name.clone(), writer.clone())));
    }
    assert_eq!(found, expected);
}

#[test]
fn every_test_that_the_architecture_names_is_there() {
    let named = Regex::new(r"`([\w/.-]+\.rs)`: `(\w+)`").unwrap();
    let text = read("docs/architecture.md");
    assert!(named.captures_iter(&text).count() > 10, "the pattern finds no tests any more");
    for found in named.captures_iter(&text) {
        let (file, test) = (&found[1], &found[2]);
        assert!(read(file).contains(&format!("fn {test}(")), "{file} has no test {test}");
    }
}

#[test]
fn the_readme_lists_the_commands() {
    let listed = Regex::new(r"(?m)^\| `mesh (\w+)").unwrap();
    let listed: BTreeSet<_> = listed.captures_iter(&read("README.md")).map(|found| found[1].to_owned()).collect();
    let help = String::from_utf8(mesh(&["--help"]).stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let known: BTreeSet<_> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let known: BTreeSet<_> = known.into_iter().filter(|name| *name != "help").map(str::to_owned).collect();
    assert_eq!(listed, known);
}

#[test]
fn every_flag_that_the_readme_names_is_there() {
    let row = Regex::new(r"(?m)^\| `mesh (\w+)( test| rebase)?([^`]*)`").unwrap();
    let flag = Regex::new(r"--[a-z-]+").unwrap();
    for found in row.captures_iter(&read("README.md")) {
        let command: Vec<_> = [&found[1], found.get(2).map_or("", |m| m.as_str().trim()), "--help"].into();
        let command: Vec<_> = command.into_iter().filter(|word| !word.is_empty()).collect();
        let help = String::from_utf8(mesh(&command).stdout).unwrap();
        for flag in flag.find_iter(&found[3]) {
            assert!(
                help.contains(&format!("{} ", flag.as_str())) || help.contains(&format!("{}\n", flag.as_str())),
                "`mesh {}` has no {}",
                &found[1],
                flag.as_str()
            );
        }
    }
}

#[test]
fn every_metric_is_listed() {
    let registered = Regex::new(r#"\.(?:counters?|gauges?|seconds)\(\s*"([a-z_]+)""#).unwrap();
    let guide = read("docs/guides/operating.md");
    let mut count = 0;
    for path in
        sources().iter().filter(|path| path.iter().any(|part| part == "services") || path.ends_with("exporter.rs"))
    {
        for found in registered.captures_iter(&fs::read_to_string(path).unwrap()) {
            count += 1;
            assert!(guide.contains(&format!("`mesh_{}`", &found[1])), "operating.md does not list mesh_{}", &found[1]);
        }
    }
    assert!(count > 15, "the pattern finds no metrics any more");
}

/// The keys and values of a TOML block by `section.key`, values as JSON; those commented out have none.
fn settings(block: &str) -> BTreeMap<String, Option<Value>> {
    let mut section = String::new();
    let mut settings = BTreeMap::new();
    for line in block.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap().to_owned();
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.split(" #").next().unwrap().trim();
            let plain = key.trim_start_matches("# ");
            let value = (plain == key).then(|| serde_json::from_str(value).unwrap_or_else(|e| panic!("{line}: {e}")));
            settings.insert(format!("{section}.{plain}"), value);
        }
    }
    settings
}

#[test]
fn the_configuration_reference_is_complete_and_true() {
    let blocks = blocks("docs/guides/operating.md", "toml");
    let [common, ingest, publisher, quality, query] = &blocks[..] else { panic!("one block for all, one for each") };
    let json = |value: serde_json::Result<Value>| value.unwrap();
    check_defaults(ingest, "ingest", json(serde_json::to_value(mesh_ingest::config::IngestSettings::default())));
    check_defaults(publisher, "bootstrap", json(serde_json::to_value(mesh_publisher::config::Bootstrap::default())));
    check_defaults(publisher, "door", json(serde_json::to_value(mesh_publisher::config::ListenerConfig::default())));
    check_defaults(publisher, "provision", json(serde_json::to_value(mesh_publisher::config::Provision::default())));
    check_defaults(publisher, "topics", json(serde_json::to_value(mesh_publisher::config::Topics::default())));
    check_defaults(publisher, "announce", json(serde_json::to_value(mesh_publisher::config::Announce::default())));
    check_defaults(quality, "judge", json(serde_json::to_value(mesh_quality::Judge::default())));
    check_defaults(query, "limits", json(serde_json::to_value(mesh_query::config::LimitsConfig::default())));
    for (service, own) in [("ingest", ingest), ("publisher", publisher), ("quality", quality), ("query", query)] {
        check_accepted(service, &[common.as_str(), own].concat());
    }
}

/// A section is documented key by key, with the code's defaults; a key without one is commented out.
fn check_defaults(block: &str, section: &str, defaults: Value) {
    let documented: BTreeMap<_, _> = settings(block)
        .into_iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(&format!("{section}."))?.to_owned(), value)))
        .collect();
    let expected: BTreeMap<_, _> = defaults
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| (key.clone(), Some(value.clone()).filter(|value| !value.is_null())))
        .collect();
    assert_eq!(documented, expected, "[{section}] in docs/guides/operating.md");
}

/// The service itself takes the documented configuration; it refuses unknown keys.
fn check_accepted(service: &str, config: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, config).unwrap();
    let checked = mesh(&["service", service, "--check", "--config", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{service}: {}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn the_contract_in_the_guide_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("orders.odcs.yaml");
    fs::write(&file, &blocks("docs/guides/contracts.md", "yaml")[0]).unwrap();
    let checked = mesh(&["validate", "--policies", "examples/nyc/policies", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn the_policies_in_the_guide_pass_their_tests() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = blocks("docs/guides/policies.md", "rego");
    assert_eq!(blocks.len(), 2, "a policy and its tests");
    for block in blocks {
        let name = block.lines().next().unwrap().trim_start_matches("# ").replace('/', "_");
        fs::write(dir.path().join(name), block).unwrap();
    }
    let tested = mesh(&["policy", "test", dir.path().to_str().unwrap()]);
    let printed = [tested.stdout, tested.stderr].concat();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&printed));
    assert!(String::from_utf8_lossy(&printed).contains("2 of 2 tests passed"), "{}", String::from_utf8_lossy(&printed));
}
