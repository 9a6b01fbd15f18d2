//! What no query may do to the others: run for ever, take all memory, bring the service down.

use std::time::Duration;

use reqwest::StatusCode;

use super::mesh::Mesh;

#[tokio::test(flavor = "multi_thread")]
async fn probe() {
    let mesh = Mesh::full().await;
    let chain = |n: usize, op: &str| format!("SELECT {}", vec!["1"; n].join(op));
    let deep = |n: usize| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
    let nested = |n: usize| format!("SELECT {}1{}", "abs(".repeat(n), ")".repeat(n));
    let not = |n: usize| format!("SELECT {}true", "NOT ".repeat(n));
    let subq = |n: usize| format!("{}SELECT 1{}", "SELECT * FROM (".repeat(n), ")".repeat(n));
    let union = |n: usize| vec!["SELECT 1"; n].join(" UNION ALL ");
    let cols = |n: usize| format!("SELECT * FROM operations.flights WHERE delay IN ({})", (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(","));
    let ors = |n: usize| format!("SELECT * FROM operations.flights WHERE {}", (0..n).map(|i| format!("delay = {i}")).collect::<Vec<_>>().join(" OR "));
    let cte = |n: usize| {
        let mut s = "WITH t0 AS (SELECT 1 AS x)".to_owned();
        for i in 1..=n { s += &format!(", t{i} AS (SELECT a.x FROM t{0} a, t{0} b)", i - 1); }
        s + &format!(" SELECT * FROM t{n}")
    };
    let which = std::env::var("PROBE").unwrap();
    let n: usize = std::env::var("PROBE_N").unwrap_or("0".into()).parse().unwrap();
    let sql = match which.as_str() {
        "plus" => chain(n, "+"), "and" => chain(n, "=1 AND 1="), "deep" => deep(n), "nested" => nested(n), "not" => not(n),
        "subq" => subq(n), "union" => union(n), "in" => cols(n), "or" => ors(n), "cte" => cte(n),
        sql => sql.to_owned(),
    };
    let started = std::time::Instant::now();
    let answer = mesh.ask("pat", &sql).await;
    let text = String::from_utf8_lossy(&answer.body);
    eprintln!("PROBE {which} {n}: {} {} {:?}", answer.status, text.chars().take(300).collect::<String>(), started.elapsed());
    assert_eq!(mesh.ask("pat", "SELECT 1").await.status, StatusCode::OK);
    let _ = Duration::ZERO;
    mesh.end().await;
}
