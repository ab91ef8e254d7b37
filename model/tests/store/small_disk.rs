//! A disk that is soon full. The tests of the model server have it too.

use std::path::Path;
use std::process::Command;

/// A file system of one mebibyte, unmounted when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this process may not mount.
    pub(crate) fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A thread may still have a file of it open: it goes from its place at once, and altogether with the last file.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        // No panic: beside that of a test that fails it would end the process, and leave what other tests have started.
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}
