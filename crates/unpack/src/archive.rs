//! Reading a tar archive member by member, with no more in memory than a fixed number of bytes.
//!
//! The headers are the `tar` crate's. Its reader is not used: it takes a line break in an extended
//! attribute for the end of a record, and then quietly passes over the names and sizes behind it.

mod pax;
mod sparse;

use std::io::{self, BufRead, Read, Seek};

use tar::{EntryType, Header};

use pax::Pax;
pub(crate) use sparse::Extent;

/// What an archive is made of, in bytes.
const BLOCK: usize = 512;

/// How long what stands before a member may be, in bytes: its long names and its attributes.
const LONGEST_HEADERS: u64 = 1 << 20;

/// An archive that is read from its start to its end.
pub(crate) struct Archive<R> {
    input: R,
    /// How much of the present member's data is left, and how much fills up its last block.
    left: u64,
    padding: u64,
}

/// A member, as the archive has it.
pub(crate) struct Member {
    pub header: Header,
    pub path: Vec<u8>,
    pub target: Vec<u8>,
    /// Of the file that it becomes, in bytes.
    pub size: u64,
    /// Where its data goes; all else is holes. None for a file without any.
    pub extents: Option<Vec<Extent>>,
    pub pax: Pax,
}

impl<R: BufRead> Archive<R> {
    pub fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next member. What is left of the one before is passed over.
    pub fn next(&mut self) -> io::Result<Option<Member>> {
        let (mut path, mut target, mut pax) = (None, None, Pax::default());
        let mut budget = LONGEST_HEADERS;
        loop {
            let Some(header) = self.header()? else {
                return match path.is_some() || target.is_some() || !pax.is_empty() {
                    true => Err(damaged("it ends where a member should follow")),
                    false => Ok(None),
                };
            };
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => path = Some(until_nul(self.extension(&mut budget)?)),
                EntryType::GNULongLink => target = Some(until_nul(self.extension(&mut budget)?)),
                EntryType::XHeader => pax = Pax::parse(&self.extension(&mut budget)?)?,
                // What it says is for members that say nothing themselves: a comment, mostly.
                EntryType::XGlobalHeader => {}
                _ => return self.member(header, path, target, pax, &mut budget).map(Some),
            }
        }
    }

    /// Some of what is left of the member's data; nothing at its end.
    pub fn data(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let some = self.input.fill_buf()?;
        match some.is_empty() {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(&some[..some.len().min(most)]),
        }
    }

    /// Says that so much of the data was used.
    pub fn consume(&mut self, count: usize) {
        self.left -= count as u64;
        self.input.consume(count);
    }

    fn member(
        &mut self,
        header: Header,
        path: Option<Vec<u8>>,
        target: Option<Vec<u8>>,
        pax: Pax,
        budget: &mut u64,
    ) -> io::Result<Member> {
        if let Some(size) = pax.number("size")?
            && has_data(header.entry_type())
        {
            self.holds(size)?;
        }
        let mut member = Member {
            path: pax.text("path").or(path).unwrap_or_else(|| header.path_bytes().into_owned()),
            target: pax
                .text("linkpath")
                .or(target)
                .unwrap_or_else(|| header.link_name_bytes().map(Vec::from).unwrap_or_default()),
            size: self.left,
            extents: None,
            header,
            pax,
        };
        self.holes(&mut member, budget)?;
        Ok(member)
    }

    /// The next header, none at the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let rest = self.left + self.padding;
        let passed = io::copy(&mut (&mut self.input).take(rest), &mut io::sink())?;
        // The last block of an archive need not be filled up.
        if passed < self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.left, self.padding) = (0, 0);
        let mut header = Header::new_old();
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.input.read_exact(header.as_mut_bytes())?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum's own field counts as blanks.
        let others = bytes[..148].iter().chain(&bytes[156..]);
        let sum = others.fold(8 * u32::from(b' '), |sum, byte| sum + u32::from(*byte));
        if header.cksum().ok() != Some(sum) {
            return Err(damaged("a header's checksum is wrong"));
        }
        if has_data(header.entry_type()) {
            self.holds(number(&header.as_old().size, header.entry_size())?)?;
        }
        Ok(Some(header))
    }

    /// Sets how much data the present member has.
    fn holds(&mut self, size: u64) -> io::Result<()> {
        // Nothing is longer, and sums with it are harmless.
        if size > i64::MAX as u64 {
            return Err(damaged("a member is longer than anything"));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The data of a member that says something of the one that follows.
    fn extension(&mut self, budget: &mut u64) -> io::Result<Vec<u8>> {
        *budget = budget
            .checked_sub(self.left)
            .ok_or_else(|| damaged("what stands before a member is too long"))?;
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(self.left).read_to_end(&mut bytes)?;
        self.left -= read as u64;
        match self.left {
            0 => Ok(bytes),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Whether data may follow a header: not if it says so by itself.
fn has_data(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Directory
            | EntryType::Char
            | EntryType::Block
            | EntryType::Fifo
    )
}

/// A number of a header's, which is zero where nothing stands, as for Go's tools.
pub(crate) fn number(field: &[u8], parsed: io::Result<u64>) -> io::Result<u64> {
    match field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        true => Ok(0),
        false => parsed,
    }
}

impl<R: BufRead + Seek> Archive<R> {
    /// Passes over the present member's data. Says where it is and how long, in bytes.
    pub fn pass_over(&mut self) -> io::Result<(u64, u64)> {
        let (at, size) = (self.input.stream_position()?, self.left);
        // Nothing is longer than this.
        self.input.seek_relative(size.cast_signed())?;
        self.left = 0;
        Ok((at, size))
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
