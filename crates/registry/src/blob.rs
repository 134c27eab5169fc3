//! A blob on its way into a file, gone on with where it broke off.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use agentkernel_images::{Digest, Hasher};
use agentkernel_unpack::Part;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use crate::RegistryError;
use crate::answer::{broken, silent};
use crate::error::{Again, Trouble};
use crate::patience::Patience;
use crate::place::Place;

/// How much is read of a file at a time, in bytes.
const PIECE: usize = 256 << 10;

/// What has come of a blob, and what comes.
pub struct Incoming<'a> {
    file: &'a File,
    part: &'a Part,
    /// Of what has come.
    hasher: Hasher,
    came: u64,
    /// The most that has ever come, of which somebody was told.
    told: u64,
    tell: &'a (dyn Fn(u64) + Sync),
    is_needless: &'a dyn Fn() -> bool,
}

impl<'a> Incoming<'a> {
    /// Goes on with what is in the file, which may come from another process.
    pub fn new(
        file: &'a File,
        part: &'a Part,
        is_needless: &'a dyn Fn() -> bool,
        tell: &'a (dyn Fn(u64) + Sync),
    ) -> Result<Self, RegistryError> {
        let hasher = Hasher::default();
        let mut incoming = Self { file, part, hasher, came: 0, told: 0, tell, is_needless };
        incoming.count_again().map_err(RegistryError::Keep)?;
        Ok(incoming)
    }

    fn count_again(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut piece = vec![0; PIECE];
        loop {
            match self.file.read(&mut piece)? {
                0 => break,
                read => {
                    self.hasher.update(&piece[..read]);
                    self.came += read as u64;
                }
            }
        }
        if self.came > self.part.size {
            return self.forget();
        }
        self.tell_more();
        Ok(())
    }

    /// What comes again is no more than what there was.
    fn tell_more(&mut self) {
        if self.came > self.told {
            (self.tell)(self.came - self.told);
            self.told = self.came;
        }
    }

    /// Begins at the start again.
    fn forget(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::default();
        self.came = 0;
        Ok(())
    }

    /// Fetches what is missing, as often as it takes.
    pub async fn fetch(&mut self, place: &Place) -> Result<(), RegistryError> {
        let patience = *place.patience();
        let fetched = patience.persist(async |is_afresh| {
            let before = self.told;
            let done = self.attempt(place, is_afresh).await;
            done.map_err(|trouble| (trouble, self.told - before))
        });
        fetched.await
    }

    async fn attempt(&mut self, place: &Place, is_afresh: bool) -> Result<(), Trouble> {
        if is_afresh {
            self.forget().map_err(RegistryError::Keep)?;
        }
        let began_at = self.came;
        if self.came < self.part.size {
            self.receive(place).await?;
        }
        let found = self.hasher.clone().finish();
        if self.came == self.part.size && found == self.part.digest {
            return Ok(());
        }
        let (registry, expected) = (place.name.clone(), self.part.digest.clone());
        let error = RegistryError::Mismatch { registry, expected, found };
        // What it was begun with may have been wrong, and what is wrong is not gone on with.
        self.forget().map_err(RegistryError::Keep)?;
        let again = if began_at > 0 { Again::Afresh } else { Again::Never };
        Err(Trouble { error, again })
    }

    /// Takes what one answer brings.
    async fn receive(&mut self, place: &Place) -> Result<(), Trouble> {
        let Part { digest, size, .. } = self.part;
        let what = format!("{digest} of {}", place.repository);
        let asked = place.ask(&format!("blobs/{digest}"), &what, None, self.came).await;
        let mut response = match asked {
            Err(Trouble {
                error: RegistryError::Status { registry, status: 416, told }, ..
            }) => {
                let error = RegistryError::Status { registry, status: 416, told };
                return Err(Trouble { error, again: Again::Afresh });
            }
            asked => asked?,
        };
        if self.came > 0 && !goes_on(&response, self.came) {
            // The whole of it comes, or something else altogether.
            self.forget().map_err(RegistryError::Keep)?;
            if response.status() != StatusCode::OK {
                let why = "another part comes than the one that was asked for".into();
                let error = RegistryError::Nonsense { registry: place.name.clone(), why };
                return Err(Trouble { error, again: Again::Afresh });
            }
        }
        loop {
            if (self.is_needless)() {
                return Err(RegistryError::Needless.into());
            }
            match Patience::attend(place.patience().silence, response.chunk()).await? {
                None => return Err(silent(&place.name)),
                Some(Err(error)) => return Err(broken(&place.name, error)),
                Some(Ok(None)) if self.came < *size => {
                    let why = format!("{} of {size} bytes came", self.came);
                    let registry = place.name.clone();
                    return Err(Trouble::later(RegistryError::Broken { registry, why }));
                }
                Some(Ok(None)) => return Ok(()),
                Some(Ok(Some(chunk))) => self.take(&chunk, place)?,
            }
        }
    }

    fn take(&mut self, chunk: &[u8], place: &Place) -> Result<(), Trouble> {
        let length = chunk.len() as u64;
        if self.came + length > self.part.size {
            self.forget().map_err(RegistryError::Keep)?;
            let registry = place.name.clone();
            let why = format!("a part of {} bytes has more", self.part.size);
            return Err(RegistryError::Nonsense { registry, why }.into());
        }
        self.file.write_all(chunk).map_err(RegistryError::Keep)?;
        self.hasher.update(chunk);
        self.came += length;
        self.tell_more();
        Ok(())
    }
}

/// Whether an answer goes on from there.
fn goes_on(response: &Response, from: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = range.and_then(|range| range.trim().strip_prefix("bytes ")?.split('-').next());
    response.status() == StatusCode::PARTIAL_CONTENT
        && first.and_then(|first| first.trim().parse().ok()) == Some(from)
}

/// What is in a blob, by its digest.
pub fn check(registry: &str, expected: &Digest, content: &[u8]) -> Result<(), RegistryError> {
    let found = Digest::of(content);
    if found == *expected {
        return Ok(());
    }
    let expected = expected.clone();
    Err(RegistryError::Mismatch { registry: registry.into(), expected, found })
}
