//! `total-*` of a snapshot summary: the parent's plus what this commit adds.
//! A parent without them (some engines write none) is counted from its manifests, as far as those have the numbers.

use std::collections::HashMap;

use iceberg::spec::ManifestContentType;

use crate::error::Result;
use crate::table::Table;

/// total, added, removed
const TOTALS: [(&str, &str, &str); 6] = [
    ("total-records", "added-records", "deleted-records"),
    ("total-data-files", "added-data-files", "deleted-data-files"),
    ("total-files-size", "added-files-size", "removed-files-size"),
    ("total-delete-files", "added-delete-files", "removed-delete-files"),
    ("total-position-deletes", "added-position-deletes", "removed-position-deletes"),
    ("total-equality-deletes", "added-equality-deletes", "removed-equality-deletes"),
];

/// Adds the totals; an unknown one is left out rather than guessed.
pub(super) async fn add(base: &Table, entries: &mut HashMap<String, String>) -> Result<()> {
    let number = |map: &HashMap<String, String>, key: &str| map.get(key).and_then(|v| v.parse::<u64>().ok());
    for (total, added, removed) in TOTALS {
        let before = match base.current_snapshot() {
            None => Some(0),
            Some(parent) => match number(&parent.summary().additional_properties, total) {
                Some(before) => Some(before),
                None => counted(base, total).await?,
            },
        };
        let change = (number(entries, added).unwrap_or(0), number(entries, removed).unwrap_or(0));
        entries.remove(total);
        if let Some(after) = before.and_then(|before| (before + change.0).checked_sub(change.1)) {
            entries.insert(total.to_owned(), after.to_string());
        }
    }
    Ok(())
}

/// Records and files of the current snapshot, from its manifest list.
async fn counted(base: &Table, total: &str) -> Result<Option<u64>> {
    let Some(snapshot) = base.current_snapshot() else { return Ok(None) };
    let manifests = base.manifests(snapshot).await?;
    let data = manifests.iter().filter(|m| m.content == ManifestContentType::Data);
    Ok(match total {
        "total-records" => data.map(|m| Some(m.added_rows_count? + m.existing_rows_count?)).sum(),
        "total-data-files" => {
            data.map(|m| Some(u64::from(m.added_files_count?) + u64::from(m.existing_files_count?))).sum()
        }
        _ => None,
    })
}
