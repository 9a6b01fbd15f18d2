//! The topics of a bus: by name and by id, in memory and on disk.
//!
//! In: create, grow, configure, delete. Out: partitions to append to and read from. A topic's id never changes and
//! never returns: a topic created again under an old name is another topic.

pub(crate) mod settings;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::LocalBusError;
use crate::log::partition::Partition;
use crate::log::{lock, read, state, write};
use settings::{Overrides, SettingError, Settings};

/// The most partitions one topic may have.
const MAX_PARTITIONS: i32 = 10_000;

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    folder: PathBuf,
    partitions: RwLock<Vec<Arc<Partition>>>,
    configured: RwLock<Configured>,
}

#[derive(Debug, Clone)]
struct Configured {
    overrides: Overrides,
    settings: Arc<Settings>,
}

/// A topic's description file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Description {
    name: String,
    id: Uuid,
    partitions: i32,
    overrides: Overrides,
}

/// Why a topic could not be created or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    #[error("topic {0} already exists")]
    Exists(String),
    #[error("a topic name has 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-', and is neither '.' nor '..'")]
    Name,
    #[error("{0}")]
    Partitions(String),
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("unknown topic")]
    Unknown,
    #[error("the bus could not write the topic's description")]
    Io(#[from] std::io::Error),
    #[error("the bus could not open the topic's log")]
    Open(#[source] Box<LocalBusError>),
}

impl Topic {
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&read(&self.configured).settings)
    }

    pub(crate) fn overrides(&self) -> Overrides {
        read(&self.configured).overrides.clone()
    }

    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        read(&self.partitions).clone()
    }

    pub(crate) fn partition_count(&self) -> i32 {
        i32::try_from(read(&self.partitions).len()).unwrap_or(i32::MAX)
    }

    pub(crate) fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        read(&self.partitions).get(usize::try_from(index).ok()?).cloned()
    }

    fn open(folder: PathBuf, description: Description) -> Result<Self, LocalBusError> {
        let settings = Settings::new(&description.overrides).map_err(|error| {
            let source = serde::de::Error::custom(error);
            LocalBusError::Description { path: description_path(&folder), source }
        })?;
        let open = |index: i32| Partition::open(folder.join(index.to_string())).map(Arc::new);
        let partitions = (0..description.partitions).map(open).collect::<Result<Vec<_>, _>>()?;
        let configured = Configured { overrides: description.overrides, settings: Arc::new(settings) };
        Ok(Self {
            name: description.name,
            id: description.id,
            partitions: RwLock::new(partitions),
            configured: RwLock::new(configured),
            folder,
        })
    }

    fn describe(&self, partitions: i32, overrides: Overrides) -> Description {
        Description { name: self.name.clone(), id: self.id, partitions, overrides }
    }
}

fn description_path(folder: &Path) -> PathBuf {
    folder.join("topic.json")
}

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    folder: PathBuf,
    known: RwLock<Known>,
    /// Taken by changes of topics, so that readers wait for no file.
    changes: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

impl Known {
    fn insert(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }
}

impl Topics {
    /// Opens all topics under `folder` and finishes deletions that a crash cut short.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, LocalBusError> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| LocalBusError::Folder { action, path, source }
        };
        std::fs::create_dir_all(&folder).map_err(fail("create", &folder))?;
        let mut known = Known::default();
        for entry in std::fs::read_dir(&folder).map_err(fail("read", &folder))? {
            let path = entry.map_err(fail("read", &folder))?.path();
            if path.extension().is_some_and(|ext| ext == "unfinished") {
                std::fs::remove_dir_all(&path).map_err(fail("remove", &path))?;
                continue;
            }
            if let Some(description) = state::load(&description_path(&path))? {
                known.insert(Arc::new(Topic::open(path, description)?));
            }
        }
        Ok(Self { folder, known: RwLock::new(known), changes: Mutex::new(()) })
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        read(&self.known).by_name.get(name).cloned()
    }

    pub(crate) fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        read(&self.known).by_id.get(&id).cloned()
    }

    /// All topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        read(&self.known).by_name.values().cloned().collect()
    }

    /// Checks what [`Self::create`] would check, and that the name is free.
    pub(crate) fn check(&self, name: &str, partitions: i32, overrides: &Overrides) -> Result<(), TopicError> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(known) {
            return Err(TopicError::Name);
        }
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(TopicError::Partitions(format!("a topic has 1 to {MAX_PARTITIONS} partitions")));
        }
        Settings::new(overrides)?;
        if self.get(name).is_some() {
            return Err(TopicError::Exists(name.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn create(&self, name: &str, partitions: i32, overrides: Overrides) -> Result<Arc<Topic>, TopicError> {
        let _changing = lock(&self.changes);
        self.check(name, partitions, &overrides)?;
        let id = Uuid::new_v4();
        let description = Description { name: name.to_owned(), id, partitions, overrides };
        // The folder appears whole or not at all. It carries the id: names may differ only in case, folders may not.
        let folder = self.folder.join(id.to_string());
        let unfinished = self.folder.join(format!("{id}.unfinished"));
        std::fs::create_dir(&unfinished)?;
        state::store(&description_path(&unfinished), &description)?;
        std::fs::rename(&unfinished, &folder)?;
        let topic = Topic::open(folder, description).map_err(|e| TopicError::Open(Box::new(e)))?;
        let topic = Arc::new(topic);
        write(&self.known).insert(Arc::clone(&topic));
        Ok(topic)
    }

    /// Adds partitions up to `count`.
    pub(crate) fn grow(&self, topic: &Topic, count: i32) -> Result<(), TopicError> {
        let _changing = lock(&self.changes);
        let now = topic.partition_count();
        if count <= now || count > MAX_PARTITIONS {
            let why = format!("the topic has {now} partitions, and {count} is not between that and {MAX_PARTITIONS}");
            return Err(TopicError::Partitions(why));
        }
        let open = |index: i32| Partition::open(topic.folder.join(index.to_string()));
        let added = (now..count).map(|index| open(index).map(Arc::new)).collect::<Result<Vec<_>, _>>();
        let added = added.map_err(|e| TopicError::Open(Box::new(e)))?;
        state::store(&description_path(&topic.folder), &topic.describe(count, topic.overrides()))?;
        write(&topic.partitions).extend(added);
        Ok(())
    }

    /// Replaces a topic's overrides with what `change` makes of them; with `dry_run`, only checks.
    pub(crate) fn configure(
        &self,
        topic: &Topic,
        dry_run: bool,
        change: impl FnOnce(&mut Overrides) -> Result<(), SettingError>,
    ) -> Result<(), TopicError> {
        let _changing = lock(&self.changes);
        let mut overrides = topic.overrides();
        change(&mut overrides)?;
        let settings = Arc::new(Settings::new(&overrides)?);
        if dry_run {
            return Ok(());
        }
        let description = topic.describe(topic.partition_count(), overrides.clone());
        state::store(&description_path(&topic.folder), &description)?;
        *write(&topic.configured) = Configured { overrides, settings };
        Ok(())
    }

    /// Forgets a topic and removes its files.
    pub(crate) fn delete(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        let _changing = lock(&self.changes);
        let topic = self.get(name).ok_or(TopicError::Unknown)?;
        topic.partitions().iter().for_each(|partition| partition.set_deleted(true));
        // Renamed first: a crash from here on finishes the deletion at the next start.
        let unfinished = topic.folder.with_extension("unfinished");
        if let Err(error) = std::fs::rename(&topic.folder, &unfinished) {
            topic.partitions().iter().for_each(|partition| partition.set_deleted(false));
            return Err(error.into());
        }
        let mut known = write(&self.known);
        known.by_name.remove(name);
        known.by_id.remove(&topic.id);
        drop(known);
        topic.partitions().iter().for_each(|partition| partition.waiters.wake());
        std::fs::remove_dir_all(&unfinished)?;
        Ok(topic)
    }

    /// The highest id of any producer that wrote anything.
    pub(crate) fn highest_producer_id(&self) -> Option<i64> {
        let partitions = self.all().into_iter().flat_map(|topic| topic.partitions());
        partitions.filter_map(|partition| partition.highest_producer_id()).max()
    }
}
