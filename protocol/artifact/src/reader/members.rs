//! The outer archive: which member comes next, and what it must be.

use std::io::Read;

use crate::codec::Compression;
use crate::error::Error;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::source::{Bytes as _, Source};
use crate::tar::{self, Entry};

/// The members of the artifact, in order.
pub(super) struct Members<R> {
    pub(super) source: Source<R>,
    /// Header that has been read and whose member has not.
    next: Option<Entry>,
}

impl<R: Read> Members<R> {
    pub(super) fn new(source: Source<R>) -> Self {
        Self { source, next: None }
    }

    /// Tells what is no artifact at all from a broken one.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let have = self.source.ensure(tar::BLOCK)?;
        let start = self.source.available();
        if have == 0 {
            return Err(Error::malformed(
                "the artifact",
                "there is not a single byte",
            ));
        }
        let known = b"version\0";
        let common = have.min(known.len());
        if start[..common] != known[..common] {
            return Err(Error::malformed(
                "the artifact",
                "it does not begin with the member version; this is not an artifact file",
            ));
        }
        Ok(())
    }

    fn peek(&mut self) -> Result<Option<&Entry>, Error> {
        if self.next.is_none() {
            self.next = tar::next_entry(&mut self.source, "the artifact")?;
        }
        Ok(self.next.as_ref())
    }

    pub(super) fn take(&mut self) -> Result<Option<Entry>, Error> {
        self.peek()?;
        Ok(self.next.take())
    }

    /// Reads the next member, which must be `name`.
    pub(super) fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        match self.take()? {
            Some(entry) if entry.name == name => {
                tar::read_file(&mut self.source, &entry, limit, "the artifact")
            }
            Some(entry) => Err(Error::malformed(
                "the artifact",
                format!("the member {:?} is where {name} is expected", entry.name),
            )),
            None => Err(self.source.truncated(name)),
        }
    }

    /// Reads the next member if it is `name`.
    pub(super) fn read_if(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.peek()? {
            Some(entry) if entry.name == name => self.read(name, limit).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads the header member that the manifest lists and checks its digest.
    pub(super) fn read_header(
        &mut self,
        manifest: &Manifest,
        limits: &Limits,
    ) -> Result<(String, Compression, Vec<u8>), Error> {
        let (name, compression) = manifest.header_member().ok_or(Error::Failed)?;
        let bytes = self.read(name, limits.header_stored_bytes_max)?;
        manifest.check(name, &bytes)?;
        Ok((name.to_owned(), compression, bytes))
    }
}
