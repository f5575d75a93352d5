//! Whether the files that a configuration was read from have changed.
//!
//! Enters: paths, each noted before it is read. Leaves: "changed" when a content differs, however it came about: a file
//! written in place, renamed over, or reached by another symbolic link, as when kubelet swaps the `..data` of a
//! ConfigMap or a Secret. Nothing waits here, and nothing is told about what a file says.
//!
//! The files are looked at, not subscribed to: a handful of `stat` calls costs nothing, and works on every file system
//! and through every kind of mount, which notifications of the kernel do not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Files and what they held when they were looked at last.
#[derive(Debug, Default)]
pub struct Watched {
    files: BTreeMap<PathBuf, State>,
    looks: u32,
}

/// Every so many looks the contents are compared whatever the stamps say: two writes within one tick of the file
/// system's clock leave the same stamp.
const THOROUGH_EVERY: u32 = 16;

/// More than any file that the configuration reads may have.
const MAX_BYTES: u64 = 1 << 21;

#[derive(Debug, PartialEq, Eq)]
struct State {
    stamp: Option<Stamp>,
    /// `None` where nothing can be read.
    content: Option<[u8; 32]>,
}

/// What `stat` says without reading: device, inode, size, and the times of the last changes in nanoseconds.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, u64, u64, (i64, i64), (i64, i64));

impl Watched {
    /// Adds a file. Called before the file is read, so that a change in between is a change.
    pub(super) fn add(&mut self, path: &Path) {
        if !self.files.contains_key(path) {
            self.files.insert(path.to_owned(), State { stamp: stamp(path), content: content(path) });
        }
    }

    /// Whether anything has changed since the last look, or since the files were read.
    pub fn look(&mut self) -> bool {
        self.looks = self.looks.wrapping_add(1);
        let thorough = self.looks.is_multiple_of(THOROUGH_EVERY);
        let mut changed = false;
        for (path, state) in &mut self.files {
            let stamp = stamp(path);
            if stamp == state.stamp && !thorough {
                continue;
            }
            let content = content(path);
            changed |= content != state.content;
            *state = State { stamp, content };
        }
        changed
    }
}

/// Of what stands at the end of all symbolic links.
fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    let (modified, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    Some(Stamp(file.dev(), file.ino(), file.size(), modified, changed))
}

fn content(path: &Path) -> Option<[u8; 32]> {
    let read = || -> io::Result<[u8; 32]> {
        let mut file = File::open(path)?.take(MAX_BYTES);
        let (mut hash, mut piece) = (Sha256::new(), zeroize::Zeroizing::new([0; 4096]));
        loop {
            match file.read(&mut *piece)? {
                0 => return Ok(hash.finalize().into()),
                read => hash.update(&piece[..read]),
            }
        }
    };
    read().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_change_is_told_once_and_the_same_content_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (config, secret) = (dir.path().join("proxy.yaml"), dir.path().join("secret"));
        fs::write(&config, "one").unwrap();
        let mut watched = Watched::default();
        watched.add(&config);
        watched.add(&secret);
        assert!(!watched.look());
        fs::write(&config, "one").unwrap();
        assert!(!watched.look(), "the same content is no change");
        fs::write(&config, "two").unwrap();
        assert_eq!((watched.look(), watched.look()), (true, false));
        fs::write(&secret, "s").unwrap();
        assert!(watched.look(), "a file that was missing is there");
        fs::remove_file(&config).unwrap();
        assert_eq!((watched.look(), watched.look()), (true, false));
    }

    #[test]
    fn a_swap_as_kubelet_makes_it_is_seen_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let swap = |name: &str, text: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("proxy.yaml"), text).unwrap();
            symlink(name, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        swap("..1", "first");
        symlink("..data/proxy.yaml", at("proxy.yaml")).unwrap();
        let mut watched = Watched::default();
        watched.add(&at("proxy.yaml"));
        for (version, text) in [("..2", "second"), ("..3", "third"), ("..4", "third")] {
            swap(version, text);
            assert_eq!(watched.look(), version != "..4", "{version}");
        }
    }

    #[test]
    fn what_changes_before_the_first_look_and_after_it_was_noted_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("proxy.yaml");
        fs::write(&config, "one").unwrap();
        let mut watched = Watched::default();
        watched.add(&config);
        fs::write(&config, "two").unwrap();
        watched.add(&config);
        assert!(watched.look());
    }

    #[test]
    fn a_thorough_look_needs_no_other_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("proxy.yaml");
        fs::write(&config, "one").unwrap();
        let mut watched = Watched::default();
        watched.add(&config);
        // As if the file system's clock had not moved between the first write and a second one.
        watched.files.get_mut(&config).unwrap().content = Some([0; 32]);
        let seen = (0..THOROUGH_EVERY).filter(|_| watched.look()).count();
        assert_eq!(seen, 1);
    }
}
