//! The folder of a mesh that an earlier version made (`tests/fixtures/make.py` says what is in it).
//!
//! In: an archive. Out: the folder, where that version had it: Iceberg metadata names its files by absolute paths.
//! Must never happen: two tests in that folder at once, or a folder that a test before left changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{root, run};

/// An unpacked folder. It is removed in the end, and then another test may unpack it.
pub(crate) struct Fixture {
    folder: PathBuf,
    _lock: File,
}

impl Fixture {
    /// Waits for its turn, then unpacks.
    pub(crate) fn unpack(version: &str) -> Self {
        let folder = Path::new("/tmp").join(format!("meshwork-fixture-{version}"));
        let lock = File::options().create(true).append(true).open(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let _ = fs::remove_dir_all(&folder);
        let archive = root().join(format!("tests/fixtures/mesh-{version}.tar.gz"));
        run(Command::new("tar").arg("-xzf").arg(archive).args(["-C", "/tmp"])).done();
        assert!(folder.join("catalog.db").exists(), "the archive holds {}", folder.display());
        Self { folder, _lock: lock }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
