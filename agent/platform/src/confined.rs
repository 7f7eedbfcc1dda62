//! Files below a directory that nothing may lead out of.
//!
//! The kernel resolves the path (`openat2`), so no check can be outrun by somebody who changes a link in
//! between. On kernels before 5.6, which cannot do that, paths below a confining directory are walked one
//! component at a time and links are refused.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

/// Where paths may lead.
#[derive(Debug)]
pub struct Confinement {
    root: File,
    prefix: PathBuf,
    confined: bool,
    links: bool,
}

/// An open directory, in which names are looked at without following links.
#[derive(Debug)]
pub struct Folder(File);

impl Confinement {
    /// Only below `within` if that is given; with `links`, symbolic links are followed as long as they
    /// stay inside.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn new(within: Option<&Path>, links: bool) -> io::Result<Confinement> {
        let prefix = within.unwrap_or(Path::new("/"));
        Ok(Confinement {
            root: File::open(prefix)?,
            prefix: prefix.to_owned(),
            confined: within.is_some(),
            links,
        })
    }

    /// Opens a plain file, or whatever is there, for reading. Never waits for a writer of a FIFO.
    ///
    /// # Errors
    /// What the operating system answered; [`io::ErrorKind::PermissionDenied`] for what leads outside.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.resolve(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
    }

    /// What is known of a path without opening it.
    ///
    /// # Errors
    /// As [`Confinement::open`].
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.resolve(path, OFlag::O_PATH)?.metadata()
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// As [`Confinement::open`].
    pub fn folder(&self, path: &Path) -> io::Result<Folder> {
        self.resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map(Folder)
    }

    fn resolve(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        let relative = path
            .strip_prefix(&self.prefix)
            .map_err(|_| outside(&self.prefix))?;
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let mut rules = if self.confined {
            ResolveFlag::RESOLVE_BENEATH
        } else {
            ResolveFlag::RESOLVE_IN_ROOT
        };
        if !self.links {
            rules |= ResolveFlag::RESOLVE_NO_SYMLINKS;
        }
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(rules);
        // the kernel asks to try again when something was renamed at that moment
        let mut patience = 64;
        loop {
            match openat2(&self.root, relative, how) {
                Ok(fd) => return Ok(File::from(fd)),
                Err(Errno::EAGAIN) if patience > 0 => patience -= 1,
                Err(Errno::EXDEV) => return Err(outside(&self.prefix)),
                Err(Errno::ELOOP) if !self.links => return Err(link()),
                // an old kernel, or a container that does not let it through
                Err(Errno::ENOSYS | Errno::EPERM) => return self.walk(relative, flags),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// For old kernels: stricter, and as safe.
    fn walk(&self, relative: &Path, flags: OFlag) -> io::Result<File> {
        if !self.confined && self.links {
            let fd = openat(
                &self.root,
                relative,
                flags | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?;
            return Ok(File::from(fd));
        }
        let mut at = self.root.as_fd().try_clone_to_owned()?;
        let mut parts = relative
            .components()
            .filter(|part| *part != Component::CurDir)
            .peekable();
        if parts.peek().is_none() {
            return step(at.as_fd(), OsStr::new("."), flags);
        }
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else {
                return Err(outside(&self.prefix));
            };
            if parts.peek().is_none() {
                return step(at.as_fd(), name, flags);
            }
            at = OwnedFd::from(step(at.as_fd(), name, OFlag::O_PATH)?);
        }
        Err(Errno::ENOENT.into())
    }
}

fn step(at: BorrowedFd<'_>, name: &OsStr, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match openat(at, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ELOOP) => return Err(link()),
        Err(errno) => return Err(errno.into()),
    };
    // with O_PATH a link is opened itself
    if flags.contains(OFlag::O_PATH) && file.metadata()?.is_symlink() {
        return Err(link());
    }
    Ok(file)
}

fn outside(prefix: &Path) -> io::Error {
    let text = format!("it leads out of '{}'", prefix.display());
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn link() -> io::Error {
    let text = "a symbolic link is on the way, which is not followed";
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

impl Folder {
    /// A directory without any confinement, but not through a link at its end.
    ///
    /// # Errors
    /// What the operating system answered.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let root = File::open("/")?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Folder(File::from(openat(
            &root,
            path,
            flags,
            Mode::empty(),
        )?)))
    }

    /// Where it is now.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// What is known of a name in it, a link itself included; `None` when there is nothing.
    ///
    /// # Errors
    /// What the operating system answered.
    pub fn metadata(&self, name: &OsStr) -> io::Result<Option<Metadata>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd).metadata().map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a file that did not exist, readable by its owner alone.
    ///
    /// # Errors
    /// What the operating system answered.
    pub fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(File::from(openat(&self.0, name, flags, mode)?))
    }

    /// Opens a file that [`Folder::create`] has made, to read and to go on writing; `None` when there is none,
    /// or something else: a link, a file of somebody else, one with another name or other permissions.
    ///
    /// # Errors
    /// What the operating system answered.
    pub fn reopen(&self, name: &OsStr) -> io::Result<Option<File>> {
        let flags = OFlag::O_RDWR
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let file = match openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::EISDIR | Errno::ENXIO) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let found = file.metadata()?;
        let ours = found.is_file()
            && found.nlink() == 1
            && found.uid() == geteuid().as_raw()
            && found.mode() & 0o7777 == 0o600;
        Ok(ours.then_some(file))
    }

    /// Gives a file another name in the same directory, replacing what has it, and makes that durable.
    ///
    /// # Errors
    /// What the operating system answered.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        renameat(&self.0, from, &self.0, to)?;
        self.0.sync_all()
    }

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// What the operating system answered.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Changes owner and group of an open file, where they are given.
///
/// # Errors
/// What the operating system answered.
pub fn set_owner(file: &File, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, uid, gid)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail loudly")]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Tree {
        dir: tempfile::TempDir,
    }

    impl Tree {
        /// `in/` holds files and links, `in-side/` is a sibling with the same beginning.
        fn new() -> Tree {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            for folder in ["in/deep", "in-side"] {
                std::fs::create_dir_all(at(folder)).unwrap();
            }
            for file in ["in/a", "in/deep/b", "in-side/secret", "secret"] {
                std::fs::write(at(file), file).unwrap();
            }
            symlink("deep/b", at("in/good")).unwrap();
            symlink("../secret", at("in/bad")).unwrap();
            symlink(at("secret"), at("in/absolute")).unwrap();
            symlink("..", at("in/up")).unwrap();
            Tree { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
    }

    /// Both ways of resolving, as (the kernel's, ours).
    fn read(confinement: &Confinement, path: &Path) -> [Result<String, io::ErrorKind>; 2] {
        let text = |file: io::Result<File>| {
            let mut text = String::new();
            file.and_then(|mut file| file.read_to_string(&mut text))
                .map(|_| text)
                .map_err(|error| error.kind())
        };
        let walked = path
            .strip_prefix(&confinement.prefix)
            .map_err(|_| outside(path))
            .and_then(|relative| confinement.walk(relative, OFlag::O_RDONLY));
        [text(confinement.open(path)), text(walked)]
    }

    #[test]
    fn nothing_leads_out() {
        let tree = Tree::new();
        let inside = tree.path("in");
        for links in [false, true] {
            let confinement = Confinement::new(Some(&inside), links).unwrap();
            for good in ["in/a", "in/deep/b", "in/./deep//b"] {
                for read in read(&confinement, &tree.path(good)) {
                    assert!(read.is_ok(), "{good}: {read:?}");
                }
            }
            for bad in [
                "in-side/secret",
                "secret",
                "in/../secret",
                "in/deep/../../secret",
                "in/bad",
                "in/absolute",
                "in/up/secret",
            ] {
                for read in read(&confinement, &tree.path(bad)) {
                    assert_eq!(read, Err(io::ErrorKind::PermissionDenied), "{bad}");
                }
                assert!(confinement.metadata(&tree.path(bad)).is_err(), "{bad}");
            }
            assert_eq!(confinement.open(&tree.path("in/good")).is_ok(), links);
        }
    }

    #[test]
    fn without_confinement_links_count_as_told() {
        let tree = Tree::new();
        let free = Confinement::new(None, true).unwrap();
        assert!(free.open(&tree.path("in/absolute")).is_ok());
        assert!(free.open(&tree.path("in/../secret")).is_ok());
        let strict = Confinement::new(None, false).unwrap();
        assert!(strict.open(&tree.path("in/absolute")).is_err());
        assert!(strict.metadata(&tree.path("in/good")).is_err());
        assert!(strict.open(&tree.path("secret")).is_ok());
    }

    #[test]
    fn only_what_was_made_here_is_opened_again() {
        let tree = Tree::new();
        let folder = Folder::open(&tree.path("in")).unwrap();
        let open = |name: &str| folder.reopen(OsStr::new(name)).unwrap();
        drop(folder.create(OsStr::new("mine")).unwrap());
        assert!(open("mine").is_some());
        assert!(open("absent").is_none());
        assert!(open("deep").is_none());
        assert!(open("good").is_none(), "a link");
        assert!(open("a").is_none(), "readable by others");
        std::fs::hard_link(tree.path("in/mine"), tree.path("second")).unwrap();
        assert!(open("mine").is_none(), "a file with two names");
    }

    #[test]
    fn names_in_a_folder_are_not_followed() {
        let tree = Tree::new();
        let folder = Confinement::new(None, true)
            .unwrap()
            .folder(&tree.path("in"))
            .unwrap();
        assert_eq!(folder.path().unwrap(), tree.path("in"));
        let bad = folder.metadata(OsStr::new("bad")).unwrap().unwrap();
        assert!(bad.is_symlink());
        assert!(folder.metadata(OsStr::new("absent")).unwrap().is_none());
        assert!(folder.create(OsStr::new("bad")).is_err());
        drop(folder.create(OsStr::new("new")).unwrap());
        folder.rename(OsStr::new("new"), OsStr::new("bad")).unwrap();
        assert!(
            tree.path("secret").exists(),
            "the link was replaced, not followed"
        );
        folder.remove(OsStr::new("bad")).unwrap();
        folder.remove(OsStr::new("bad")).unwrap();
    }
}
