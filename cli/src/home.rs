//! Where a mesh keeps what its people need: `mesh.toml` with the endpoints, `credentials.toml` with the keys.
//!
//! A key is never an argument: it comes from `MESH_KEY`, or from `credentials.toml` under the name that `--as` gives.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mesh_bus::BusConfig;
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// The principal that a new mesh makes.
pub use mesh_policy::ADMIN;

/// `mesh.toml`: by this the command line finds a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshFile {
    pub bus: BusConfig,
    pub catalog: CatalogEndpoint,
    pub publisher: Endpoint,
    pub ingest: Endpoint,
    pub query: Endpoint,
    /// Admin addresses (health, metrics) by service.
    pub admin: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogEndpoint {
    pub uri: String,
    pub warehouse: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub url: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    #[serde(default)]
    keys: BTreeMap<String, String>,
}

/// A mesh's data folder, from outside.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    /// Whether MESH_KEY counts here.
    hears_environment: bool,
}

impl Home {
    /// The folder named by `--mesh` or `MESH_HOME` (both arrive as `given`), or `./.mesh`.
    pub fn locate(given: Option<&Path>) -> Self {
        Self { dir: given.map_or_else(|| PathBuf::from(".mesh"), Path::to_owned), hears_environment: true }
    }

    /// The folder of a mesh that this process runs: keys come out of it and from nowhere else.
    pub fn own(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), hears_environment: false }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn mesh_file(&self) -> PathBuf {
        self.dir.join("mesh.toml")
    }

    pub fn credentials_file(&self) -> PathBuf {
        self.dir.join("credentials.toml")
    }

    /// The endpoints of the mesh that lives here.
    pub fn endpoints(&self) -> Result<MeshFile, CliError> {
        let path = self.mesh_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(CliError::NoMesh { dir: self.dir.clone() });
            }
            Err(source) => return Err(CliError::File { action: "read", path, source }),
        };
        let remedy = "start the mesh again, which writes a new one";
        toml::from_str(&text).map_err(|source| CliError::MeshFile { path, remedy, source: Box::new(source) })
    }

    /// Writes `mesh.toml` in one step, so that a reader sees the old or the new one. With properties of the bus in it,
    /// among which passwords are, it is its owner's alone.
    pub fn write_endpoints(&self, file: &MeshFile) -> Result<(), CliError> {
        let mode = if file.bus.properties.is_empty() { 0o644 } else { 0o600 };
        write_whole(&self.mesh_file(), &toml_text(file)?, mode)
    }

    /// Removes `mesh.toml`, if there is one.
    pub fn remove_endpoints(&self) -> Result<(), CliError> {
        let path = self.mesh_file();
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(CliError::File { action: "remove", path, source: e })
            }
            _ => Ok(()),
        }
    }

    /// The key of `principal`: `MESH_KEY` wins over the file.
    pub fn key(&self, principal: &str) -> Result<String, CliError> {
        match std::env::var("MESH_KEY") {
            Ok(key) if !key.is_empty() && self.hears_environment => Ok(key),
            _ => self.key_kept(principal),
        }
    }

    /// The key that `credentials.toml` keeps for `principal`.
    pub fn key_kept(&self, principal: &str) -> Result<String, CliError> {
        let credentials = self.credentials()?;
        credentials.keys.get(principal).cloned().ok_or_else(|| CliError::NoKey {
            name: principal.to_owned(),
            path: self.credentials_file(),
            known: credentials.keys.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether a key is kept here for `principal`.
    pub fn has_key(&self, principal: &str) -> Result<bool, CliError> {
        Ok(self.credentials()?.keys.contains_key(principal))
    }

    /// Makes a random key for `principal`, keeps it here (0600) and returns it.
    pub fn make_key(&self, principal: &str) -> Result<String, CliError> {
        let mut credentials = self.credentials()?;
        let key = hex::encode(rand::random::<[u8; 32]>());
        credentials.keys.insert(principal.to_owned(), key.clone());
        write_whole(&self.credentials_file(), &toml_text(&credentials)?, 0o600)?;
        Ok(key)
    }

    /// Removes keys that were made here and belong to no principal.
    pub fn forget_keys(&self, principals: &[String]) -> Result<(), CliError> {
        let mut credentials = self.credentials()?;
        credentials.keys.retain(|name, _| !principals.contains(name));
        write_whole(&self.credentials_file(), &toml_text(&credentials)?, 0o600)
    }

    fn credentials(&self) -> Result<Credentials, CliError> {
        let path = self.credentials_file();
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|source| CliError::MeshFile {
                path,
                remedy: "correct it: under [keys], lines `name = \"key\"`",
                source: Box::new(source),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Credentials::default()),
            Err(source) => Err(CliError::File { action: "read", path, source }),
        }
    }
}

fn toml_text<T: Serialize>(value: &T) -> Result<String, CliError> {
    toml::to_string(value).map_err(|e| CliError::BadAnswer { problem: e.to_string() })
}

/// Writes a file beside its place and renames it there.
pub fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let failed = |source| CliError::File { action: "write", path: path.to_owned(), source };
    let beside = path.with_extension("toml.new");
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(dir.path()));
        (dir, home)
    }

    #[test]
    fn a_key_is_kept_for_its_owner_only() {
        let (dir, home) = home();
        let key = home.make_key("ana").unwrap();
        assert_eq!(home.key("ana").unwrap(), key);
        let mode = fs::metadata(dir.path().join("credentials.toml")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_unknown_name_is_told_which_names_are_known() {
        let (_dir, home) = home();
        home.make_key("ana").unwrap();
        let error = home.key("bob").unwrap_err();
        assert_eq!(error.code(), "MESH-CLI-0003");
        assert!(error.to_string().contains("known there: ana"), "{error}");
    }

    #[test]
    fn a_folder_without_a_mesh_is_named() {
        let (dir, home) = home();
        let error = home.endpoints().unwrap_err();
        assert_eq!((error.code(), error.exit()), ("MESH-CLI-0001", crate::exit::Exit::Usage));
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    }
}
