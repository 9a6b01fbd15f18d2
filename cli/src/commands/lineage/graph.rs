//! Lineage as a graph of spans: producers' batches, ingest's commits, queries, joined by links.
//!
//! In: span records, of any trace and in any order. Out: the part of the graph around one query or one product.
//! Must never happen: a link to a span that was not kept is left out; it is a node that says so.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use mesh_proto::v1::SpanRecord;
use serde::Serialize;

/// `<trace id>-<span id>`.
pub(crate) type NodeId = String;

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Query,
    Commit,
    Produce,
    /// Linked to, but the span is not on `mesh.spans`: a producer that exports elsewhere, or expired.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) kind: Kind,
    /// When the span ended: RFC 3339, so that texts sort as times do.
    pub(crate) ended_at: Option<String>,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Data went from `from` to `to`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Edge {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
}

/// Nodes in the order of their time, and the edges among them, in the direction of the data.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
}

/// All that is known of how data went.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    by_id: BTreeMap<NodeId, SpanRecord>,
}

impl Spans {
    /// Keeps the spans that lineage is made of; a span that came twice counts once.
    pub(crate) fn take(&mut self, span: SpanRecord) {
        if kind(&span) != Kind::Unknown {
            self.by_id.insert(format!("{}-{}", span.trace_id, span.span_id), span);
        }
    }

    /// What the answer of this query was made from.
    pub(crate) fn of_query(&self, query_id: &str) -> Option<Graph> {
        let is_it = |span: &SpanRecord| kind(span) == Kind::Query && attribute(span, "mesh.query_id") == query_id;
        let start = self.by_id.iter().find(|(_, span)| is_it(span)).map(|(id, _)| id.clone())?;
        Some(self.graph(self.upstream([start])))
    }

    /// What this product's newest commits were made from, and which queries read them.
    pub(crate) fn of_product(&self, product: &str, commits: usize) -> Graph {
        let mut mine: Vec<_> = self
            .by_id
            .iter()
            .filter(|(_, span)| kind(span) == Kind::Commit && attribute(span, "mesh.product") == product)
            .map(|(id, span)| (ended_at(span), id.clone()))
            .collect();
        mine.sort();
        let newest: BTreeSet<_> = mine.into_iter().rev().take(commits).map(|(_, id)| id).collect();
        let readers = self.by_id.iter().filter(|(_, span)| links(span).any(|id| newest.contains(&id)));
        let readers: Vec<_> = readers.map(|(id, _)| id.clone()).collect();
        let mut ids = self.upstream(newest);
        ids.extend(readers);
        self.graph(ids)
    }

    /// These, and all that they link to, directly or not.
    fn upstream(&self, from: impl IntoIterator<Item = NodeId>) -> BTreeSet<NodeId> {
        let mut waiting: Vec<_> = from.into_iter().collect();
        let mut seen: BTreeSet<_> = waiting.iter().cloned().collect();
        while let Some(id) = waiting.pop() {
            for id in self.by_id.get(&id).into_iter().flat_map(links) {
                if seen.insert(id.clone()) {
                    waiting.push(id);
                }
            }
        }
        seen
    }

    fn graph(&self, ids: BTreeSet<NodeId>) -> Graph {
        let mut edges: Vec<_> = ids
            .iter()
            .filter_map(|id| Some((id, self.by_id.get(id)?)))
            .flat_map(|(to, span)| links(span).map(|from| Edge { from, to: to.clone() }))
            .filter(|edge| ids.contains(&edge.from))
            .collect();
        edges.sort();
        edges.dedup();
        let node = |id: NodeId| match self.by_id.get(&id) {
            Some(span) => Node { id, kind: kind(span), ended_at: ended_at(span), attributes: span.attributes.clone() },
            None => Node { id, kind: Kind::Unknown, ended_at: None, attributes: BTreeMap::new() },
        };
        let mut nodes: Vec<_> = ids.into_iter().map(node).collect();
        nodes.sort_by(|a, b| a.ended_at.cmp(&b.ended_at));
        Graph { nodes, edges }
    }
}

impl Graph {
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.kind == kind)
    }

    /// What this node was made from.
    pub(crate) fn sources<'a>(&'a self, of: &'a Node) -> impl Iterator<Item = &'a Node> {
        let from: BTreeSet<_> = self.edges.iter().filter(|edge| edge.to == of.id).map(|edge| &edge.from).collect();
        self.nodes.iter().filter(move |node| from.contains(&node.id))
    }

    /// What was made from this node.
    pub(crate) fn uses<'a>(&'a self, of: &'a Node) -> impl Iterator<Item = &'a Node> {
        let to: BTreeSet<_> = self.edges.iter().filter(|edge| edge.from == of.id).map(|edge| &edge.to).collect();
        self.nodes.iter().filter(move |node| to.contains(&node.id))
    }
}

impl Node {
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn kind(span: &SpanRecord) -> Kind {
    match span.name.as_str() {
        "query" => Kind::Query,
        "ingest.commit" => Kind::Commit,
        "produce" => Kind::Produce,
        _ => Kind::Unknown,
    }
}

fn ended_at(span: &SpanRecord) -> Option<String> {
    let at = DateTime::<Utc>::try_from(span.ended_at?).ok()?;
    Some(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn attribute<'a>(span: &'a SpanRecord, name: &str) -> &'a str {
    span.attributes.get(name).map_or("", String::as_str)
}

fn links(span: &SpanRecord) -> impl Iterator<Item = NodeId> + '_ {
    span.links.iter().map(|link| format!("{}-{}", link.trace_id, link.span_id))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use mesh_proto::v1::SpanLink;
    use pretty_assertions::assert_eq;

    fn span(name: &str, id: &str, attributes: &[(&str, &str)], links: &[&str]) -> SpanRecord {
        SpanRecord {
            trace_id: "t".into(),
            span_id: id.into(),
            name: name.into(),
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            links: links
                .iter()
                .map(|id| SpanLink { trace_id: "t".into(), span_id: (*id).into(), ..SpanLink::default() })
                .collect(),
            ..SpanRecord::default()
        }
    }

    fn spans() -> Spans {
        let mut spans = Spans::default();
        spans.take(span("query", "q", &[("mesh.query_id", "1")], &["c1", "c2"]));
        spans.take(span("query", "other", &[("mesh.query_id", "2")], &["c3"]));
        spans.take(span("ingest.commit", "c1", &[("mesh.product", "a.x")], &["p1", "gone"]));
        spans.take(span("ingest.commit", "c2", &[("mesh.product", "b.y")], &["p2"]));
        spans.take(span("ingest.commit", "c3", &[("mesh.product", "a.x")], &["p1"]));
        spans.take(span("produce", "p1", &[], &[]));
        spans.take(span("produce", "p2", &[], &[]));
        spans.take(span("http", "noise", &[], &["c1"]));
        spans
    }

    fn check(graph: &Graph, nodes: &[&str], edges: &[(&str, &str)]) {
        let found: Vec<_> = graph.nodes.iter().map(|node| node.id.trim_start_matches("t-")).collect();
        assert_eq!(found, nodes);
        let found: Vec<_> =
            graph.edges.iter().map(|e| (e.from.trim_start_matches("t-"), e.to.trim_start_matches("t-"))).collect();
        assert_eq!(found, edges);
    }

    #[test]
    fn a_query_is_followed_up_to_its_producers() {
        let graph = spans().of_query("1").unwrap();
        let edges = [("c1", "q"), ("c2", "q"), ("gone", "c1"), ("p1", "c1"), ("p2", "c2")];
        check(&graph, &["c1", "c2", "gone", "p1", "p2", "q"], &edges);
    }

    #[test]
    fn a_span_that_was_not_kept_is_a_node_that_says_so() {
        let graph = spans().of_query("1").unwrap();
        assert_eq!(graph.of_kind(Kind::Unknown).map(|n| n.id.as_str()).collect::<Vec<_>>(), ["t-gone"]);
    }

    #[test]
    fn an_unknown_query_has_no_graph() {
        assert!(spans().of_query("3").is_none());
    }

    #[test]
    fn a_product_is_followed_both_ways() {
        let edges = [("c1", "q"), ("c3", "other"), ("gone", "c1"), ("p1", "c1"), ("p1", "c3")];
        check(&spans().of_product("a.x", 32), &["c1", "c3", "gone", "other", "p1", "q"], &edges);
    }
}
