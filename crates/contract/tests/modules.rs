//! The crate's modules depend on one another in one direction.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Graph = BTreeMap<String, BTreeSet<String>>;

/// For each top-level module, the top-level modules whose names it uses, in files of any depth; tests left out.
fn graph(sources: &Path) -> Graph {
    let mut graph = Graph::new();
    collect(sources, None, &mut graph);
    let known: BTreeSet<String> = graph.keys().cloned().collect();
    for (module, uses) in &mut graph {
        uses.retain(|other| known.contains(other) && other != module);
    }
    graph
}

fn collect(folder: &Path, top: Option<&str>, graph: &mut Graph) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = top.unwrap_or(&stem);
        if path.is_dir() {
            collect(&path, Some(module), graph);
        } else if module != "lib" && path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            graph.entry(module.to_owned()).or_default().extend(used(code));
        }
    }
}

/// The top-level modules that a text names: `crate::a::b`, `use crate::{a, b::{c, d}}`; comments do not count.
fn used(code: &str) -> BTreeSet<String> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let word =
        |text: &str| text.trim_start().split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap().to_owned();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.insert(word(&group[start..i]));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found
}

/// The modules that cannot be put in an order: those left when what depends on nothing is taken away, again and again.
fn circle(mut graph: Graph) -> Graph {
    loop {
        let free: BTreeSet<String> =
            graph.iter().filter(|(_, uses)| uses.is_empty()).map(|(name, _)| name.clone()).collect();
        if free.is_empty() {
            return graph;
        }
        graph.retain(|name, _| !free.contains(name));
        graph.values_mut().for_each(|uses| uses.retain(|other| !free.contains(other)));
    }
}

#[test]
fn modules_depend_in_one_direction() {
    let graph = graph(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(graph.len() > 15 && graph["parse"].contains("product"), "the sources are read: {graph:#?}");
    assert_eq!(circle(graph), Graph::new(), "these modules need one another");
}

#[test]
fn uses_are_read_in_every_form() {
    let code = "use crate::{names, model::{Column, Contract}, error::ContractError};\n/// [`crate::comment`]\nlet a = crate::yaml::join(x);\n";
    let found: Vec<String> = used(code).into_iter().collect();
    assert_eq!(found, ["error", "model", "names", "yaml"]);
    let edge = |from: &str, to: &str| (from.to_owned(), BTreeSet::from([to.to_owned()]));
    let graph = Graph::from([
        edge("a", "b"),
        edge("b", "c"),
        edge("c", "b"),
        edge("d", "e"),
        ("e".to_owned(), BTreeSet::new()),
    ]);
    assert_eq!(circle(graph).into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}
