//! pyiceberg's SqlCatalog opens our catalog as it is, reads, appends; our next commit goes on over its append.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesh_lakehouse::maintenance::{AnnouncedUpTo, ExpirePolicy, TableUpkeep};
use mesh_lakehouse::{Catalog, CatalogConfig, Change, LakehouseError, summary};

use super::common::{create, ident, ids, ingest, open, source};

const OPEN: &str = r#"
import sys
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
catalog = SqlCatalog("mesh", uri=sys.argv[1], warehouse=sys.argv[2])
table = catalog.load_table("tests.t")
"#;
const READ: &str = r#"
assert catalog.list_namespaces() == [("tests",)], catalog.list_namespaces()
assert catalog.list_tables("tests") == [("tests", "t")]
rows = table.scan().to_arrow()
assert table.scan(row_filter="id >= 8").to_arrow().num_rows == sum(id >= 8 for id in rows["id"].to_pylist())
print(rows.num_rows, sum(rows["id"].to_pylist()), sorted(f.field_id for f in table.schema().fields))
"#;
const APPEND: &str = r#"
table.append(pa.table({"id": pa.array([-1, -2], pa.int64()), "name": ["x", "y"]}))
print(table.current_snapshot().summary.additional_properties.get("mesh.offsets"))
"#;
const EXPIRE: &str = r#"
table.append(pa.table({"id": pa.array([-3], pa.int64()), "name": ["z"]}))
snapshots = [s.snapshot_id for s in table.metadata.snapshots]
table.maintenance.expire_snapshots().by_ids(snapshots[:-1]).commit()
print(len(catalog.load_table("tests.t").metadata.snapshots))
"#;
/// Every snapshot's manifests, and what their headers say beside those that pyiceberg writes for the same table.
const HEADERS: &str = r#"
import json
def header(path):
    bytes, at = open(path.removeprefix("file://"), "rb").read(), 4
    assert bytes[:4] == b"Obj\x01", path
    def long():
        nonlocal at
        value = shift = 0
        while True:
            byte = bytes[at]; at += 1
            value |= (byte & 0x7f) << shift; shift += 7
            if byte < 0x80: return (value >> 1) ^ -(value & 1)
    def text():
        nonlocal at
        size = long(); at += size
        return bytes[at - size:at]
    entries = {}
    while (count := long()) != 0:
        if count < 0: long()
        for _ in range(abs(count)): key = text().decode(); entries[key] = text()
    return entries
def shape(schema, at):
    if isinstance(schema, list):
        for branch in schema:
            if branch != "null": yield from shape(branch, at)
    elif isinstance(schema, dict) and schema["type"] == "record":
        yield at, "record", schema["name"]
        for field in schema["fields"]:
            yield at + "/" + field["name"], "id", field.get("field-id")
            yield from shape(field["type"], at + "/" + field["name"])
    elif isinstance(schema, dict) and schema["type"] == "array":
        yield at, "element", schema.get("element-id")
        yield from shape(schema["items"], at + "[]")
    elif isinstance(schema, dict):
        yield at, "type", (schema["type"] if isinstance(schema["type"], str) else "?", schema.get("logicalType"))
    else:
        yield at, "type", schema
read = 0
for snapshot in table.metadata.snapshots:
    for manifest in snapshot.manifests(table.io):
        read += len(manifest.fetch_manifest_entry(table.io, discard_deleted=False))
table.append(pa.table({"id": pa.array([-9], pa.int64()), "name": ["theirs"]}))
head = catalog.load_table("tests.t").current_snapshot()
manifests = head.manifests(table.io)
theirs = [m for m in manifests if m.added_snapshot_id == head.snapshot_id][0]
ours = [m for m in manifests if m.added_snapshot_id != head.snapshot_id]
parent = [s for s in table.metadata.snapshots if s.snapshot_id == head.parent_snapshot_id][0]
def differences(ours, theirs):
    found = sorted(set(theirs) - set(ours))
    a, b = set(shape(json.loads(ours["avro.schema"]), "")), set(shape(json.loads(theirs["avro.schema"]), ""))
    # The specification and Java have ints here; pyiceberg 0.11 has longs.
    found += sorted(map(str, b - a - {("/data_file/equality_ids[]", "type", "long")}))
    assert ours["avro.codec"] == b"deflate", ours["avro.codec"]
    return found
found = differences(header(parent.manifest_list), header(head.manifest_list))
for manifest in ours:
    entries = header(manifest.manifest_path)
    found += differences(entries, header(theirs.manifest_path))
    assert json.loads(entries["schema"])["fields"] == json.loads(header(theirs.manifest_path)["schema"])["fields"]
    assert (entries["format-version"], entries["content"]) == (b"2", b"data")
print(read, sorted(set(found)))
"#;
const CREATE: &str = r#"
import sys
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
catalog = SqlCatalog("mesh", uri=sys.argv[1], warehouse=sys.argv[2])
catalog.create_namespace("theirs")
table = catalog.create_table("theirs.u", schema=pa.schema([("id", pa.int64()), ("name", pa.string())]))
table.append(pa.table({"id": pa.array([1, 2, 3], pa.int64()), "name": ["a", "b", "c"]}))
"#;

/// The interpreter that has pyiceberg; `None` only if `MESH_SKIP=python`.
pub(crate) fn python() -> Option<PathBuf> {
    super::needs::python().unwrap()
}

fn run(python: &Path, folder: &Path, script: &[&str]) -> String {
    let config = CatalogConfig::in_folder(folder);
    let output =
        Command::new(python).arg("-c").arg(script.concat()).args([&config.uri, &config.warehouse]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn recorded(catalog: &Catalog) -> Option<i64> {
    catalog.load(&ident()).await.unwrap().recorded().await.unwrap().offsets.get(&source(), 0)
}

#[tokio::test]
async fn pyiceberg_reads_and_appends_and_offsets_travel() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    let stale = create(&catalog).await;
    let table = ingest(&catalog, &stale, 10).await.unwrap().table;
    assert_eq!(run(&python, folder.path(), &[OPEN, READ]), "10 45 [100, 101]");

    // A foreign snapshot has no offsets of its own; ours are found behind it.
    assert_eq!(run(&python, folder.path(), &[OPEN, APPEND]), "None");
    assert_eq!(recorded(&catalog).await, Some(10));

    // We still hold the version before theirs: the commit loses the swap, rebases, and both appends stand.
    let ours = ingest(&catalog, &table, 20).await.unwrap().table;
    assert_eq!(ids(&ours).await, (-2..20).collect::<Vec<_>>());
    assert_eq!(ours.recorded().await.unwrap().offsets.get(&source(), 0), Some(20));
    assert_eq!(run(&python, folder.path(), &[OPEN, READ]), "22 187 [100, 101]");

    // A writer that slept through all that is fenced.
    let error = ingest(&catalog, &stale, 15).await.unwrap_err();
    assert!(matches!(error, LakehouseError::Fenced { .. }), "{error}");

    // Their expiry takes our snapshots away; the offsets are found all the same, and ingest goes on.
    assert_eq!(run(&python, folder.path(), &[OPEN, EXPIRE]), "1");
    assert_eq!(recorded(&catalog).await, Some(20));
    let table = ingest(&catalog, &catalog.load(&ident()).await.unwrap(), 25).await.unwrap().table;
    assert_eq!(ids(&table).await, (-3..25).collect::<Vec<_>>());
}

/// Hundreds of commits with merges, expiry and deletion of what that leaves over: pyiceberg reads every snapshot that is
/// left, and finds in our headers what it writes into its own.
#[tokio::test]
async fn pyiceberg_reads_a_table_after_its_upkeep() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    let mut table = create(&catalog).await;
    let keep = Change::revision(1).with_property(summary::KEPT_SNAPSHOTS, "9");
    table = catalog.apply(&table, &keep).await.into_result().unwrap().table;
    let policy = ExpirePolicy { delete_after: Duration::ZERO, ..ExpirePolicy::default() };
    let mut upkeep = TableUpkeep::new(policy);
    for n in 1..=230 {
        table = ingest(&catalog, &table, n * 2).await.unwrap().table;
        if n % 23 == 0 {
            upkeep.round(&catalog, &table, AnnouncedUpTo::NotAnnounced).await.unwrap();
            table = catalog.load(&ident()).await.unwrap();
        }
    }
    assert_eq!(table.metadata().snapshots().len(), 9);
    assert_eq!(run(&python, folder.path(), &[OPEN, READ]), format!("460 {} [100, 101]", 459 * 460 / 2));
    let files: i64 = (222..=230).sum();
    assert_eq!(run(&python, folder.path(), &[OPEN, HEADERS]), format!("{files} []"));
    assert_eq!(run(&python, folder.path(), &[OPEN, "print(table.scan().to_arrow().num_rows)"]), "461");
}

#[tokio::test]
async fn we_open_and_extend_what_pyiceberg_made() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("warehouse")).unwrap();
    run(&python, folder.path(), &[CREATE]);
    let catalog = open(folder.path()).await;
    let theirs = iceberg::TableIdent::from_strs(["theirs", "u"]).unwrap();
    let table = catalog.load(&theirs).await.unwrap();
    assert_eq!(ids(&table).await, [1, 2, 3]);
    assert!(table.recorded().await.unwrap().offsets.is_empty());
    let table = ingest(&catalog, &table, 5).await.unwrap().table;
    assert_eq!(ids(&table).await, [0, 1, 1, 2, 2, 3, 3, 4]);
    let rows = "rows = catalog.load_table('theirs.u').scan().to_arrow(); print(rows.num_rows)";
    let open_only = OPEN.replace("tests.t", "theirs.u");
    assert_eq!(run(&python, folder.path(), &[&open_only, rows]), "8");
}
