//! The data folder of a mesh on this machine, and the configuration of its services.
//!
//! `bus/ catalog.db warehouse/ logs/ keys/ config/ lock mesh.toml credentials.toml`

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use mesh_bus::BusConfig;
use mesh_runtime::credentials::key_sha256;
use toml::{Table, Value};

use crate::args::ServiceName;
use crate::error::CliError;
use crate::home::{ADMIN, CatalogEndpoint, Home, write_whole};

/// The folders that a mesh keeps in its own.
const PARTS: [&str; 5] = ["bus", "warehouse", "logs", "keys", "config"];
/// The files beside them. The lock stays: who holds it must find it.
const FILES: [&str; 5] = ["catalog.db", "catalog.db-wal", "catalog.db-shm", "mesh.toml", "credentials.toml"];

/// A data folder, whose parts all exist.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes whatever parts the folder lacks.
    pub fn prepare(dir: &Path) -> Result<Self, CliError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CliError::File { action: "create", path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let root = dir.canonicalize().map_err(failed(dir))?;
        for part in PARTS {
            let part = root.join(part);
            fs::create_dir_all(&part).map_err(failed(&part))?;
        }
        Ok(Self { root })
    }

    /// Makes the keys that are missing, the admin's and the masking key. Only for the holder of the lock: of two at once, each
    /// would make its own.
    pub fn make_keys(&self) -> Result<(), CliError> {
        if !self.home().has_key(ADMIN)? {
            self.home().make_key(ADMIN)?;
        }
        if !self.mask_key().exists() {
            write_whole(&self.mask_key(), &hex::encode(rand::random::<[u8; 32]>()), 0o600)?;
        }
        Ok(())
    }

    /// The mesh's own view of its folder: whose key MESH_KEY holds is no matter here.
    pub fn home(&self) -> Home {
        Home::own(&self.root)
    }

    /// The folder for this process alone, as long as the file lives.
    pub fn lock(&self) -> Result<File, CliError> {
        lock(&self.root)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a mesh was here before: its services make the catalog.
    pub fn has_catalog(&self) -> bool {
        self.root.join("catalog.db").exists()
    }

    pub fn bus(&self) -> PathBuf {
        self.root.join("bus")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub fn log_of(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    fn mask_key(&self) -> PathBuf {
        self.root.join("keys/mask.key")
    }

    /// The catalog as pyiceberg, too, opens it.
    pub fn catalog(&self) -> CatalogEndpoint {
        CatalogEndpoint {
            uri: format!("sqlite:///{}", self.root.join("catalog.db").display()),
            warehouse: format!("file://{}", self.root.join("warehouse").display()),
            name: "mesh".to_owned(),
        }
    }

    /// Writes a service's configuration file and returns its path.
    pub fn configure(&self, service: ServiceName, bus: &BusConfig) -> Result<PathBuf, CliError> {
        let catalog = self.catalog();
        let mut config = Table::new();
        let properties = section(bus.properties.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let bus = [("bootstrap".to_owned(), bus.bootstrap.clone().into()), ("properties".to_owned(), properties)];
        config.insert("bus".into(), Value::Table(bus.into_iter().collect()));
        config.insert(
            "catalog".into(),
            section([("uri", catalog.uri.as_str()), ("warehouse", &catalog.warehouse), ("name", &catalog.name)]),
        );
        match service {
            ServiceName::Publisher => {
                let hash = key_sha256(&self.home().key(ADMIN)?);
                config.insert("bootstrap".into(), section([("admin_key_sha256", hash.as_str())]));
            }
            ServiceName::Query => {
                let path = self.mask_key().display().to_string();
                config.insert("masking".into(), section([("key_file", path.as_str())]));
            }
            ServiceName::Ingest => {
                // There is one ingest here: restarted under the same name, it has its shards back at once.
                config.insert("ingest".into(), section([("instance", "local")]));
            }
            ServiceName::Quality => {}
        }
        let path = self.root.join("config").join(format!("{}.toml", service.as_str()));
        write_whole(&path, &config.to_string(), 0o600)?;
        Ok(path)
    }
}

/// Takes a data folder for this process; the kernel lets go of it when the process ends, however it ends.
pub fn lock(dir: &Path) -> Result<File, CliError> {
    let path = dir.join("lock");
    let failed = |source| CliError::File { action: "lock", path: path.clone(), source };
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CliError::AlreadyUp { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes what a mesh keeps in its folder, and nothing else.
pub fn clear(dir: &Path) -> Result<(), CliError> {
    let ignore_missing = |path: &Path, removed: std::io::Result<()>| match removed {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(CliError::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    };
    let parts = PARTS.iter().map(|part| dir.join(part));
    parts.into_iter().try_for_each(|part| ignore_missing(&part, fs::remove_dir_all(&part)))?;
    FILES.iter().map(|file| dir.join(file)).try_for_each(|file| ignore_missing(&file, fs::remove_file(&file)))
}

fn section<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value.to_owned()))).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cleared_is_the_meshs_own() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(dir.path()).unwrap();
        layout.make_keys().unwrap();
        fs::write(dir.path().join("catalog.db"), "").unwrap();
        fs::write(dir.path().join("bus/log"), "").unwrap();
        for mine in ["notes.txt", "photos/1.jpg"] {
            fs::create_dir_all(dir.path().join(mine).parent().unwrap()).unwrap();
            fs::write(dir.path().join(mine), "mine").unwrap();
        }
        clear(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["notes.txt", "photos"]);
    }
}
