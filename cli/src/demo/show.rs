//! The demo's steps, in their order.

use std::path::{Path, PathBuf};

use mesh_contract::RuleKind;
use mesh_proto::v1::Verdict;

use super::subscriber::Subscriber;
use super::{EXAMPLES, Screen};
use crate::args::DemoArgs;
use crate::commands::quality::{HEADERS, Shown};
use crate::commands::{apply, lineage, policy, produce, sql};
use crate::error::CliError;
use crate::home::{ADMIN, Home};
use crate::mesh_client::MeshClient;
use crate::print::{Row as _, grid};

/// Somebody else's view: a partner's own carrier.
const PARTNER: &str = "partner-ua";
const PARTNER_ASKS: &str =
    "SELECT carrier, COUNT(*) AS flights, COUNT(DISTINCT tailnum) AS planes FROM operations.flights GROUP BY carrier";
const ANALYST: &str = "ana";
/// What a slow machine needs at the most.
const PATIENCE: u64 = 120;

pub(super) async fn admission(home: &Home, example: &Path, screen: &Screen, logs: &Path) -> Result<(), CliError> {
    screen.step("People and policies, submitted by the admin; contracts, by the admins of their domains");
    let submit = async |who: &str, file: PathBuf, wanted| submit(home, who, &file, wanted, screen, logs).await;
    submit(ADMIN, example.join("principals.toml"), Wanted::Accepted).await?;
    for file in policy::files(&example.join("policies"))? {
        submit(ADMIN, file, Wanted::Accepted).await?;
    }
    for one in EXAMPLES {
        submit(one.admin, example.join(one.contract), Wanted::Accepted).await?;
    }
    screen.step("A contract that is refused, for a reason that its author can act on");
    submit("ops-admin", example.join("refused/passengers.odcs.yaml"), Wanted::Refused).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Accepted,
    Refused,
}

async fn submit(
    home: &Home,
    principal: &str,
    file: &Path,
    wanted: Wanted,
    screen: &Screen,
    logs: &Path,
) -> Result<(), CliError> {
    for verdict in apply::submit(home, principal, file, false).await? {
        verdict.lines().iter().for_each(|line| screen.say(&format!("  {line}")));
        if verdict.refused() != (wanted == Wanted::Refused) {
            return Err(CliError::DemoWrong {
                what: format!("verdict on {}", file.display()),
                found: verdict.state,
                wanted: format!("{wanted:?}").to_lowercase(),
                logs: logs.to_owned(),
            });
        }
    }
    Ok(())
}

pub(super) async fn publication(
    home: &Home,
    client: &MeshClient,
    example: &Path,
    subscriber: &Subscriber,
    screen: &Screen,
) -> Result<(), CliError> {
    screen.step("Events, published by three domains; what a subscriber sees meanwhile");
    for one in EXAMPLES {
        screen.bar.set_message(one.product);
        let key = home.key(one.admin)?;
        let data = example.join(one.data);
        let sent = produce::send_file(client, &key, one.product, &data, Some("NA"), &screen.bar).await?;
        screen.say(&format!("  published {sent} events to {}", one.product));
    }
    screen.bar.finish_and_clear();
    let all_in =
        |subscriber: &Subscriber| EXAMPLES.iter().all(|one| subscriber.product(one.product).events == one.events);
    subscriber.until("the announcement of every snapshot", PATIENCE, all_in).await
}

pub(super) fn tables(subscriber: &Subscriber, screen: &Screen, logs: &Path) -> Result<(), CliError> {
    screen.step("What the tables hold: every event is a row or a dead letter");
    let headers = ["product", "events", "rows", "dead letters", "snapshots"].map(str::to_owned);
    let rows = EXAMPLES.iter().map(|one| {
        let progress = subscriber.product(one.product);
        let numbers = [progress.events, progress.rows, progress.dead_letters].map(|number| number.to_string());
        [one.product.to_owned()].into_iter().chain(numbers).chain([progress.snapshots.to_string()]).collect()
    });
    screen.say(&grid(headers, rows));
    for one in EXAMPLES {
        let found = subscriber.product(one.product);
        let (found, wanted) = ((found.rows, found.dead_letters), (one.events - one.dead_letters, one.dead_letters));
        if found != wanted {
            return Err(CliError::DemoWrong {
                what: format!("count of rows and dead letters of {}", one.product),
                found: format!("{found:?}"),
                wanted: format!("{wanted:?}"),
                logs: logs.to_owned(),
            });
        }
    }
    Ok(())
}

pub(super) async fn verdicts(client: &MeshClient, subscriber: &Subscriber, screen: &Screen) -> Result<(), CliError> {
    screen.step("Verdicts: each product against its own promises");
    for one in EXAMPLES {
        let contract = client.product(one.product).await?.contract;
        let rules = contract.quality().iter().filter(|rule| !matches!(rule.kind, RuleKind::Text)).count();
        let checks = rules + usize::from(contract.freshness().is_some());
        let judged = |subscriber: &Subscriber| {
            let last = subscriber.product(one.product).last_snapshot;
            let verdicts = subscriber.verdicts_of(one.product);
            // The clock's verdict alone is about no snapshot.
            let of_last = |v: &Verdict| v.to_snapshot_id == Some(last) || v.metric == "latency";
            verdicts.len() >= checks && verdicts.iter().all(of_last)
        };
        subscriber.until(&format!("the verdicts on {}", one.product), PATIENCE, judged).await?;
    }
    let verdicts = EXAMPLES.iter().flat_map(|one| subscriber.verdicts_of(one.product));
    let rows = verdicts.map(|verdict: Verdict| Shown(verdict).cells());
    screen.say(&grid(HEADERS.iter().map(|h| (*h).to_owned()), rows));
    Ok(())
}

/// The analyst's answer and the partner's; the id of the analyst's query.
pub(super) async fn answers(home: &Home, example: &Path, screen: &Screen) -> Result<String, CliError> {
    screen.step("A question across three domains, asked by an analyst: tail numbers are masked, and still join");
    let file = example.join("queries/delay.sql");
    let query =
        std::fs::read_to_string(&file).map_err(|source| CliError::File { action: "read", path: file, source })?;
    screen.say(query.trim());
    let answer = sql::ask(home, ANALYST, &query).await?;
    screen.say(&answer.grid());
    screen.say(&format!("  query {}", answer.query_id));
    screen.step("The same table, asked by a partner: only its own carrier's rows");
    screen.say(PARTNER_ASKS);
    screen.say(&sql::ask(home, PARTNER, PARTNER_ASKS).await?.grid());
    Ok(answer.query_id)
}

pub(super) async fn lineage(client: &MeshClient, query_id: &str, screen: &Screen) -> Result<(), CliError> {
    screen.step("Where the analyst's answer came from: producers' spans, ingest's commits, the query");
    // OpenTelemetry's own switch: who throws it wants no spans, and the graph is made of them.
    match std::env::var("OTEL_SDK_DISABLED") {
        Ok(value) if value.eq_ignore_ascii_case("true") => {
            screen.say("  there is none: OTEL_SDK_DISABLED is set, so nothing was traced");
        }
        _ => screen.say(&lineage::picture_of_query(client, query_id).await?),
    }
    screen.step("The same, by columns");
    screen.say(&lineage::columns_of_query(client, query_id).await?);
    Ok(())
}

pub(super) fn next_steps(demo: &DemoArgs, query_id: &str, screen: &Screen) {
    screen.step("What to try next");
    let data = word(&demo.data.display().to_string());
    if !demo.keep {
        let kafka = demo.kafka.flags();
        screen.say(&format!("  cargo run -- up --data {data}{kafka}   # the same mesh again; Ctrl-C stops it"));
    }
    let mesh = format!("cargo run -- --mesh {data}");
    for (command, what) in [
        ("products", "what there is"),
        ("show operations.flights", "a product's contract, schema, promises and readers"),
        ("watch --from start", "all that happened so far, and what comes"),
        ("--as partner-ua sql 'SELECT DISTINCT carrier FROM operations.flights'", "a partner's view"),
        ("lineage --columns QUERY-ID", "the way of each column"),
        ("apply examples/nyc/refused/passengers.odcs.yaml", "read why, correct it, apply again"),
    ] {
        screen.say(&format!("  {mesh} {}   # {what}", command.replace("QUERY-ID", query_id)));
    }
}

/// A word of a command line, in quotes where a shell would take it apart.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,=@".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
