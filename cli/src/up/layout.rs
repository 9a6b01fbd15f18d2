//! The data folder of a mesh on this machine, and the configuration of its services.
//!
//! `bus/ catalog.db warehouse/ logs/ keys/ config/ lock mesh.toml credentials.toml`

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use mesh_bus::BusConfig;
use toml::{Table, Value};

use crate::args::ServiceName;
use crate::error::CliError;
use crate::home::{ADMIN, CatalogEndpoint, Home, key_sha256, write_whole};

/// A data folder, whose parts all exist.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes whatever the folder lacks: its parts, the admin's key, the masking key.
    pub fn prepare(dir: &Path) -> Result<Self, CliError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CliError::File { action: "create", path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let root = dir.canonicalize().map_err(failed(dir))?;
        for part in ["bus", "warehouse", "logs", "keys", "config"] {
            let part = root.join(part);
            fs::create_dir_all(&part).map_err(failed(&part))?;
        }
        let layout = Self { root };
        if !layout.home().has_key(ADMIN)? {
            layout.home().make_key(ADMIN)?;
        }
        if !layout.mask_key().exists() {
            write_whole(&layout.mask_key(), &hex::encode(rand::random::<[u8; 32]>()), 0o600)?;
        }
        Ok(layout)
    }

    /// The mesh's own view of its folder: whose key MESH_KEY holds is no matter here.
    pub fn home(&self) -> Home {
        Home::own(&self.root)
    }

    /// The folder for this process alone, as long as the file lives.
    pub fn lock(&self) -> Result<File, CliError> {
        lock(&self.root)
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

fn section<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value.to_owned()))).collect())
}
