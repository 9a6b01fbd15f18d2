//! What other engines do to a table's schema, generated: renames, swaps, drops, additions of a dropped name, widening,
//! reordering, partitioning, in sequences. Whatever they do, no reader sees a value that the contract's owner masked or
//! a row that the policy filters; the answer is right by field id, or a refusal with a code.
//!
//! `MESH_SEED` replays a run, `MESH_SCENARIOS` takes more of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
use mesh_contract::ProductContract;
use mesh_lakehouse::CatalogConfig;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::mesh::Mesh;

/// Reads a list of tables with the changes to make to each.
const SCRIPT: &str = r#"
import json, sys
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import LongType, StringType
from pyiceberg.transforms import IdentityTransform
catalog = SqlCatalog("mesh", uri=sys.argv[1], warehouse=sys.argv[2])
def append(table, values):
    schema = table.schema().as_arrow()
    row = {f.name: values.get(str(f.field_id), "foreign" if isinstance(f.field_type, StringType) else None) for f in table.schema().fields}
    table.append(pa.Table.from_pylist([row], schema=schema))
for name, changes in json.load(sys.stdin):
    for change, *of in changes:
        table = catalog.load_table(name)
        if change == "append":
            append(table, of[0])
        elif change == "recreate":
            made = table.schema()
            catalog.drop_table(name)
            append(catalog.create_table(name, schema=made), of[0])
        elif change == "drop-table":
            catalog.drop_table(name)
        elif change == "partition":
            with table.update_spec() as update: update.add_field(of[0], IdentityTransform(), "by_" + of[0])
        elif change == "unpartition":
            with table.update_spec() as update: update.remove_field("by_" + of[0])
        else:
            with table.update_schema(allow_incompatible_changes=True) as update:
                match change:
                    case "rename": update.rename_column(of[0], of[1])
                    case "drop": update.delete_column(of[0])
                    case "add": update.add_column(of[0], StringType())
                    case "widen": update.update_column(of[0], field_type=LongType())
                    case "first": update.move_first(of[0])
"#;

const POLICY: &str = r#"package mesh.platform.reading
import rego.v1
default allow := true
owns if input.product.domain in input.principal.adminOf
columnMasks[column.name] := {"action": column.custom.mask} if {
    some column in input.product.columns
    column.custom.mask
    not owns
}
rowFilters contains {"expression": "open <> 'HIDDEN'"} if "partner" in input.principal.roles
"#;

/// The contract's columns and their field ids.
const COLUMNS: [(&str, i32); 4] = [("id", 100), ("secret", 101), ("open", 102), ("amount", 103)];

fn document(object: &str) -> String {
    format!(
        "{{apiVersion: v3.1.0, kind: DataContract, id: 'urn:test:shop:{object}', name: {object}, version: 1.0.0, \
         status: active, domain: shop, dataProduct: {object}, \
         servers: [{{server: mesh, type: kafka, host: 'mesh:9092', format: json}}], \
         schema: [{{name: {object}, physicalType: topic, physicalName: shop.{object}.v1, properties: [\
         {{name: id, logicalType: integer}}, \
         {{name: secret, logicalType: string, customProperties: [{{property: mask, value: mask-alphanum}}]}}, \
         {{name: open, logicalType: string}}, \
         {{name: amount, logicalType: integer, logicalTypeOptions: {{format: i32}}}}]}}]}}"
    )
}

fn rows() -> [ArrayRef; 4] {
    [
        Arc::new(Int64Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec!["SECRET1", "SECRET2", "SECRET3"])),
        Arc::new(StringArray::from(vec!["shown", "HIDDEN", "shown"])),
        Arc::new(Int32Array::from(vec![10, 20, 30])),
    ]
}

/// What another engine appends, by field id: twice, once with a row that the filter hides.
fn appended() -> [Value; 2] {
    [
        json!({"100": 4, "101": "SECRET4", "102": "HIDDEN", "103": 40}),
        json!({"100": 5, "101": "SECRET5", "102": "shown", "103": 50}),
    ]
}

/// A small generator of its own: the same everywhere for one seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

/// A table's columns as they become: name by field id.
#[derive(Clone)]
struct Model {
    names: BTreeMap<i32, String>,
    next: i32,
    changes: Vec<Value>,
    /// Whether nothing happened to a column of the contract that an answer could not be right after.
    harmless: bool,
}

impl Model {
    fn new() -> Self {
        let names = COLUMNS.iter().map(|(name, id)| (*id, (*name).to_owned())).collect();
        Self { names, next: 104, changes: Vec::new(), harmless: true }
    }

    fn change(&mut self, change: Value) {
        self.changes.push(change);
    }

    fn rename(&mut self, id: i32, to: &str) {
        let from = self.names.insert(id, to.to_owned()).unwrap();
        self.change(json!(["rename", from, to]));
        self.harmless = false;
    }

    fn add(&mut self, name: &str) {
        self.names.insert(self.next, name.to_owned());
        self.next += 1;
        self.change(json!(["add", name]));
    }

    fn drop(&mut self, id: i32) -> String {
        let name = self.names.remove(&id).unwrap();
        self.change(json!(["drop", name]));
        self.harmless = false;
        name
    }

    /// One of the things that other engines do.
    fn evolve(&mut self, kind: usize, random: &mut Random) {
        let ids: Vec<i32> = self.names.keys().copied().filter(|id| *id < 104).collect();
        let one = ids[random.below(ids.len())];
        let other = ids[random.below(ids.len())];
        let fresh = format!("fresh{}", self.changes.len());
        match kind {
            0 => self.rename(one, &fresh),
            1 if one != other => {
                let names = (self.names[&one].clone(), self.names[&other].clone());
                self.rename(one, &fresh);
                self.rename(other, &names.0);
                self.rename(one, &names.1);
            }
            2 if ids.len() > 2 => drop(self.drop(one)),
            3 if ids.len() > 2 => {
                let name = self.drop(one);
                self.add(&name);
            }
            4 => {
                let name = self.names[&one].clone();
                self.rename(one, &fresh);
                self.add(&name);
            }
            5 => self.add(&fresh),
            6 => self.change(json!(["first", self.names[&one]])),
            7 if self.names.contains_key(&103) && !self.changes.iter().any(|change| change[0] == "widen") => {
                self.change(json!(["widen", self.names[&103]]));
            }
            8 => {
                // A column of theirs that partitions the table for a while, and goes.
                self.add(&fresh);
                self.change(json!(["partition", fresh]));
                self.change(json!(["append", {"100": 6, "101": "SECRET6", "102": "shown", "103": 60}]));
                self.change(json!(["unpartition", fresh]));
                self.change(json!(["drop", fresh]));
                self.names.retain(|_, name| *name != fresh);
            }
            _ => self.change(json!(["first", self.names[&one]])),
        }
    }

    /// The rows by field id; a field that was dropped and rows before it was added are null.
    fn rows(&self) -> Vec<Vec<Value>> {
        let mut rows: Vec<Vec<Value>> = (1..=3)
            .map(|n| {
                let open = if n == 2 { "HIDDEN" } else { "shown" };
                vec![json!(n), json!(format!("SECRET{n}")), json!(open), json!(10 * n)]
            })
            .collect();
        let appends = self.changes.iter().filter(|change| change[0] == "append");
        rows.extend(appends.map(|append| COLUMNS.iter().map(|(_, id)| append[1][id.to_string()].clone()).collect()));
        rows.sort_by_key(|row| row[0].as_i64());
        rows
    }
}

fn scenarios(seed: u64, count: usize) -> Vec<Model> {
    let mut random = Random(seed);
    let scenario = |number: usize| {
        let mut model = Model::new();
        // Each kind alone, then sequences.
        let kinds: Vec<usize> = match number {
            0..9 => vec![number],
            _ => (0..=random.below(3)).map(|_| random.below(9)).collect(),
        };
        kinds.into_iter().for_each(|kind| model.evolve(kind, &mut random));
        appended().into_iter().for_each(|row| model.change(json!(["append", row])));
        model
    };
    (0..count).map(scenario).collect()
}

fn change(python: &Path, mesh: &Mesh, plan: &Value) {
    let config = CatalogConfig::in_folder(mesh.folder());
    let input = mesh.folder().join("changes.json");
    std::fs::write(&input, plan.to_string()).unwrap();
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT, &config.uri, &config.warehouse]).stdin(std::fs::File::open(&input).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn mesh() -> Mesh {
    let mesh = Mesh::empty().await;
    mesh.policy("mesh.platform.reading", POLICY).await.unwrap();
    for (name, roles, admin_of) in
        [("ollie", vec![], vec!["shop"]), ("ana", vec![], vec![]), ("pat", vec!["partner"], vec![])]
    {
        mesh.principal(name, &roles, &admin_of).await.unwrap();
    }
    mesh
}

async fn admit(mesh: &Mesh, object: &str, records_ids: bool) {
    let names = COLUMNS.map(|(name, _)| name);
    mesh.admit(&document(object), &names, &rows(), records_ids).await;
    for who in ["ollie", "ana", "pat"] {
        mesh.known(who, &format!("shop.{object}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_engines_do_to_columns_undoes_no_mask_and_no_filter() {
    let Some(python) = mesh_testkit::python().unwrap() else { return };
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let (seed, count) = (number("MESH_SEED", 7), usize::try_from(number("MESH_SCENARIOS", 24)).unwrap());
    // Shown with a failure, to replay it.
    eprintln!("MESH_SEED={seed} MESH_SCENARIOS={count}");
    let mesh = mesh().await;
    let scenarios = scenarios(seed, count);
    let mut plan = Vec::new();
    for (at, model) in scenarios.iter().enumerate() {
        admit(&mesh, &format!("t{at}"), at % 3 != 2).await;
        plan.push(json!([format!("shop.t{at}_v1"), model.changes]));
    }
    change(&python, &mesh, &json!(plan));
    for (at, model) in scenarios.iter().enumerate() {
        let table = format!("shop.t{at}");
        let context = format!("MESH_SEED={seed}, {table}: {}", json!(model.changes));
        owner_sees_right_rows_or_none(&mesh, &table, model, &context).await;
        for who in ["ana", "pat"] {
            nothing_hidden_is_shown(&mesh, &table, model, who, &context).await;
        }
    }
    mesh.end().await;
}

async fn owner_sees_right_rows_or_none(mesh: &Mesh, table: &str, model: &Model, context: &str) {
    let answer = mesh.ask("ollie", &format!("SELECT id, secret, open, amount FROM {table} ORDER BY id")).await;
    if answer.status != StatusCode::OK {
        assert_eq!(answer.json()["code"], "MESH-QUERY-0027", "{context}: {}", answer.json());
        assert!(!model.harmless, "{context}: refused without need: {}", answer.json());
        return;
    }
    let found: Vec<Vec<Value>> = answer.rows().as_array().unwrap().iter().map(in_order).collect();
    assert_eq!(found, model.rows(), "{context}");
}

fn in_order(row: &Value) -> Vec<Value> {
    COLUMNS.iter().map(|(name, _)| row[*name].clone()).collect()
}

async fn nothing_hidden_is_shown(mesh: &Mesh, table: &str, model: &Model, who: &str, context: &str) {
    let mut forms = vec![
        format!("SELECT * FROM {table}"),
        format!("SELECT secret FROM {table} ORDER BY secret DESC"),
        format!("SELECT min(secret) AS lo, max(secret) AS hi FROM {table}"),
        format!("SELECT open, count(*) AS n FROM {table} GROUP BY open"),
        format!("SELECT a.secret, b.open FROM {table} a JOIN {table} b ON a.id = b.id"),
        format!("EXPLAIN ANALYZE SELECT secret FROM {table} WHERE open > 'A'"),
    ];
    forms.extend(model.names.values().map(|name| format!("SELECT \"{name}\" FROM {table}")));
    for sql in forms {
        let answer = mesh.ask(who, &sql).await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!body.contains("SECRET"), "{context}: {who} sees a masked value by {sql}: {body}");
        assert!(!body.contains("foreign\""), "{context}: {who} sees a column that no policy knows by {sql}: {body}");
        if who == "pat" {
            assert!(!body.contains("HIDDEN"), "{context}: {who} sees a filtered row by {sql}: {body}");
        }
    }
    let counted = mesh.ask(who, &format!("SELECT count(*) AS n FROM {table} WHERE secret LIKE 'SECRET%'")).await;
    if counted.status == StatusCode::OK {
        assert_eq!(counted.rows()[0]["n"], 0, "{context}: {who}'s predicate ran on masked values");
    }
    let all = mesh.ask(who, &format!("SELECT count(*) AS n FROM {table}")).await;
    if all.status == StatusCode::OK {
        let visible = model.rows().iter().filter(|row| who != "pat" || row[2] != json!("HIDDEN")).count();
        assert_eq!(all.rows()[0]["n"], visible, "{context}: {who}");
    }
}

/// A table of the same name, columns and field ids is not the product's.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_dropped_and_created_again_is_refused_until_the_remedy_was_taken() {
    let Some(python) = mesh_testkit::python().unwrap() else { return };
    let mesh = mesh().await;
    admit(&mesh, "again", true).await;
    let newcomer = json!({"100": 666, "101": "SECRET", "102": "newcomer", "103": 1});
    change(&python, &mesh, &json!([["shop.again_v1", [["recreate", newcomer]]]]));
    for who in ["ollie", "ana", "pat"] {
        for sql in ["SELECT * FROM shop.again", "SELECT count(*) AS n FROM shop.again_v1", "DESCRIBE shop.again"] {
            let answer = mesh.ask(who, sql).await;
            answer.refused(StatusCode::INTERNAL_SERVER_ERROR, "MESH-QUERY-0027");
            assert!(answer.json()["message"].as_str().unwrap().contains("the contract again"), "{}", answer.json());
        }
    }
    // The remedy: drop it, apply the contract again.
    change(&python, &mesh, &json!([["shop.again_v1", [["drop-table"]]]]));
    let parsed = ProductContract::parse("test.yaml", &document("again")).unwrap();
    let made = mesh.table(&parsed).await.unwrap();
    mesh.activate(&document("again"), 2, &made).await.unwrap();
    mesh.known("ana", "shop.again").await;
    assert_eq!(mesh.ask("ana", "SELECT * FROM shop.again").await.rows(), json!([]));
    mesh.end().await;
}

/// A widened column gives what the contract's type holds, in that type, and refuses the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_widened_column_gives_only_what_the_contracts_type_holds() {
    let Some(python) = mesh_testkit::python().unwrap() else { return };
    let mesh = mesh().await;
    admit(&mesh, "fits", true).await;
    admit(&mesh, "wide", true).await;
    let row = |id: i64, amount: i64| json!(["append", {"100": id, "101": "s", "102": "shown", "103": amount}]);
    let widen = json!(["widen", "amount"]);
    let fits: Vec<Value> = vec![widen.clone(), row(4, i64::from(i32::MAX)), row(5, i64::from(i32::MIN))];
    let wide: Vec<Value> = vec![widen, row(4, 3_000_000_000)];
    change(&python, &mesh, &json!([["shop.fits_v1", fits], ["shop.wide_v1", wide]]));
    for who in ["ollie", "ana", "pat"] {
        let types = "SELECT arrow_typeof(amount) AS t, amount FROM shop.fits WHERE id = 4";
        assert_eq!(mesh.ask(who, types).await.rows(), json!([{"t": "Int32", "amount": i32::MAX}]), "{who}");
        let below = mesh.ask(who, "SELECT id FROM shop.fits WHERE amount < 0").await;
        assert_eq!(below.rows(), json!([{"id": 5}]), "{who}");
        let answer = mesh.ask(who, "SELECT amount FROM shop.wide").await;
        assert_ne!(answer.status, StatusCode::OK, "{who}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("3000000000"), "{who}");
        // The columns that fit are still there.
        assert_eq!(mesh.ask(who, "SELECT count(id) AS n FROM shop.wide").await.status, StatusCode::OK, "{who}");
    }
    let refused = mesh.ask("ollie", "SELECT amount FROM shop.wide").await.json();
    assert!(refused["message"].as_str().unwrap().contains("widened column `amount`"), "{refused}");
    mesh.end().await;
}
