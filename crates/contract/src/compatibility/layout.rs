//! What moves a product: its names, topic, key, partitioning, and how strict it is with writers.

use super::{ChangeKind, FieldChange};
use crate::product::ProductContract;

pub(super) fn compare(old: &ProductContract, new: &ProductContract, changes: &mut Vec<FieldChange>) {
    let mut moved = |what: &str, from: String, to: String, why: &str| {
        if from != to {
            changes.push(FieldChange {
                path: String::new(),
                kind: ChangeKind::Layout,
                breaking: true,
                reason: format!("{what} was {from}, is {to}: {why}"),
            });
        }
    };
    let key = |c: &ProductContract| {
        let names: Vec<&str> = c.record_key_columns().iter().map(|k| k.name.as_str()).collect();
        format!("({})", names.join(", "))
    };
    let partition = |c: &ProductContract| {
        let fields: Vec<String> =
            c.partition_spec().fields.iter().map(|f| format!("{}({})", f.transform, f.column)).collect();
        format!("({})", fields.join(", "))
    };
    let unnamed = "queries name it";
    moved("the product", old.product().to_string(), new.product().to_string(), unnamed);
    moved("the object", old.object_name().to_owned(), new.object_name().to_owned(), unnamed);
    let offsets = "the table's offsets are the old topic's";
    moved("the topic", old.topic().to_owned(), new.topic().to_owned(), offsets);
    let format = |c: &ProductContract| format!("{:?}", c.value_format());
    moved("the format", format(old), format(new), "records in the topic have the old one");
    moved("the record key", key(old), key(new), "it identifies rows");
    moved("the partitioning", partition(old), partition(new), "a table's layout stays for its major version");
    let mode = |c: &ProductContract| if c.is_upsert() { "upsert" } else { "append" }.to_owned();
    moved("the write mode", mode(old), mode(new), "tombstones were rows or dead letters");
    if !old.is_closed() && new.is_closed() {
        moved("the contract", "open".to_owned(), "closed".to_owned(), "writers with further fields were accepted");
    }
}
