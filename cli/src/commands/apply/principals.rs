//! Principals files: who has no key yet gets one.
//!
//! In: a principals file. Out: the same with the hashes of keys, submitted; new keys in `credentials.toml`.
//! Must never happen: a key that leaves this machine, a new key for somebody whom the mesh knows already, a key kept for
//! somebody who was refused, anything kept by a dry run.

use std::collections::BTreeSet;
use std::path::Path;

use mesh_runtime::credentials::key_sha256;
use toml::{Table, Value};

use super::{PublisherClient, Verdict};
use crate::error::CliError;
use crate::exit::Exit;
use crate::home::Home;
use crate::print::note;

/// The file as TOML. What is none, the publisher is given as it is: it says what is wrong, and where.
pub(super) fn read(path: &Path, document: &[u8]) -> Option<Table> {
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    std::str::from_utf8(document).ok().filter(|_| is_toml)?.parse().ok()
}

pub(super) async fn submit(
    client: &PublisherClient<'_>,
    file: &Table,
    dry_run: bool,
) -> Result<Vec<Verdict>, CliError> {
    let home = client.home;
    let mut strangers = BTreeSet::new();
    for name in keyless(file) {
        if !home.has_key(&name)? {
            strangers.insert(name);
        }
    }
    // No key has such a hash: it only stands where a key would be.
    let stand_in = || hex::encode(rand::random::<[u8; 32]>());
    if strangers.is_empty() {
        return client.post(with_hashes(file, |name| kept(home, name))?, dry_run).await;
    }
    let preview_file = with_hashes(file, |name| Ok(kept(home, name)?.or_else(|| Some(stand_in()))))?;
    let preview = client.post(preview_file.clone(), true).await?;
    if preview.iter().any(Verdict::refused) {
        return if dry_run { Ok(preview) } else { client.post(preview_file, false).await };
    }
    // Others have their keys elsewhere, and keep them.
    let new: Vec<String> = strangers.into_iter().filter(|name| is_added(&preview, name)).collect();
    if dry_run {
        let hash = |name: &str| Ok(kept(home, name)?.or_else(|| new.iter().any(|n| n == name).then(stand_in)));
        return client.post(with_hashes(file, hash)?, true).await;
    }
    new.iter().try_for_each(|name| home.make_key(name).map(|_| ()))?;
    let answer = client.post(with_hashes(file, |name| kept(home, name))?, false).await;
    tell(home, &new, &answer)?;
    answer
}

/// A refusal is sure: no principal has those keys. After any other outcome one may.
fn tell(home: &Home, new: &[String], answer: &Result<Vec<Verdict>, CliError>) -> Result<(), CliError> {
    let refused = match answer {
        Ok(verdicts) => verdicts.iter().any(Verdict::refused),
        Err(error) => error.exit() == Exit::No,
    };
    if refused {
        return home.forget_keys(new);
    }
    if !new.is_empty() {
        note(&format!("keys were made for {}; they are in {}", new.join(", "), home.credentials_file().display()));
    }
    Ok(())
}

fn is_added(preview: &[Verdict], name: &str) -> bool {
    preview.iter().flat_map(|verdict| &verdict.changes).any(|change| change.path == name && change.kind == "added")
}

fn kept(home: &Home, name: &str) -> Result<Option<String>, CliError> {
    Ok(if home.has_key(name)? { Some(key_sha256(&home.key_kept(name)?)) } else { None })
}

/// Names of the principals that the file gives no key, and does not take away.
fn keyless(file: &Table) -> Vec<String> {
    let principals = file.get("principal").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    principals.filter_map(|principal| needs_key(principal).map(str::to_owned)).collect()
}

fn needs_key(principal: &Table) -> Option<&str> {
    let removed = principal.get("remove").and_then(Value::as_bool) == Some(true);
    let name = principal.get("name").and_then(Value::as_str)?;
    (!removed && !principal.contains_key("key_sha256")).then_some(name)
}

/// The file with a hash for each principal that has none and is given one.
fn with_hashes(file: &Table, hash: impl Fn(&str) -> Result<Option<String>, CliError>) -> Result<Vec<u8>, CliError> {
    let mut file = file.clone();
    let principals = file.get_mut("principal").and_then(Value::as_array_mut);
    for principal in principals.into_iter().flatten().filter_map(Value::as_table_mut) {
        if let Some(hash) = needs_key(principal).map(&hash).transpose()?.flatten() {
            principal.insert("key_sha256".to_owned(), hash.into());
        }
    }
    Ok(file.to_string().into_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_who_stays_and_has_no_key_is_given_one() {
        let text = "[[principal]]\nname = \"a\"\n[[principal]]\nname = \"b\"\nkey_sha256 = \"x\"\n\
                    [[principal]]\nname = \"c\"\nremove = true\n";
        let file = read(Path::new("p.toml"), text.as_bytes()).unwrap();
        assert_eq!(keyless(&file), ["a"]);
        let filled =
            String::from_utf8(with_hashes(&file, |name| Ok(Some(format!("hash of {name}")))).unwrap()).unwrap();
        assert!(filled.contains("hash of a") && !filled.contains("hash of c"), "{filled}");
        assert!(filled.contains("\"x\""), "{filled}");
    }

    #[test]
    fn what_is_no_toml_is_left_to_the_publisher() {
        assert!(read(Path::new("p.toml"), b"[[principal").is_none());
        assert!(read(Path::new("p.yaml"), b"a = 1").is_none());
    }
}
