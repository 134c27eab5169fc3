//! Files with holes, in the four forms that GNU tar has for them.

use std::io::{self, BufRead};
use std::str;

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader};

use super::{Archive, BLOCK, Member, damaged};

/// Where some of a file's data goes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub at: u64,
    pub length: u64,
}

/// How long a number may be that stands in front of the data, in bytes.
const LONGEST_NUMBER: usize = 20;

impl<R: BufRead> Archive<R> {
    /// Finds out where the member has holes, and what it is really called.
    pub(super) fn holes(&mut self, member: &mut Member, budget: &mut u64) -> io::Result<()> {
        let version = (member.pax.text("GNU.sparse.major"), member.pax.text("GNU.sparse.minor"));
        let extents = match version {
            _ if member.header.entry_type() == EntryType::GNUSparse => {
                let header = member.header.as_gnu();
                let header = header.ok_or_else(|| damaged("a header of GNU tar's isn't one"))?;
                member.size = header.real_size()?;
                let (mut extents, mut more) = (listed(&header.sparse)?, header.is_extended());
                while more {
                    let mut next = GnuExtSparseHeader::new();
                    spend(budget, BLOCK as u64)?;
                    self.input.read_exact(next.as_mut_bytes())?;
                    extents.extend(listed(next.sparse())?);
                    more = next.is_extended();
                }
                extents
            }
            (Some(major), Some(minor)) if (&*major, &*minor) == (b"1", b"0") => {
                self.extents_before_data(budget)?
            }
            (None, None) => match extents_in(member)? {
                Some(extents) => extents,
                None => return Ok(()),
            },
            _ => return Err(damaged("a file has holes in a form that nobody knows")),
        };
        let sizes =
            [member.pax.number("GNU.sparse.size")?, member.pax.number("GNU.sparse.realsize")?];
        member.size = sizes.into_iter().flatten().next().unwrap_or(member.size);
        member.path =
            member.pax.text("GNU.sparse.name").unwrap_or(std::mem::take(&mut member.path));
        check(&extents, self.left, member.size)?;
        member.extents = Some(extents);
        Ok(())
    }

    /// The form 1.0: what is where stands in front of the data, in lines.
    fn extents_before_data(&mut self, budget: &mut u64) -> io::Result<Vec<Extent>> {
        let before = self.left;
        let count = self.number(budget)?;
        let mut extents = Vec::new();
        for _ in 0..count {
            let (at, length) = (self.number(budget)?, self.number(budget)?);
            extents.push(Extent { at, length });
        }
        let used = before - self.left;
        let padding = used.next_multiple_of(BLOCK as u64) - used;
        for _ in 0..padding {
            self.byte()?;
        }
        Ok(extents)
    }

    fn number(&mut self, budget: &mut u64) -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            spend(budget, 1)?;
            match self.byte()? {
                b'\n' => return parse(&digits),
                byte if digits.len() < LONGEST_NUMBER => digits.push(byte),
                _ => return Err(damaged(NO_NUMBER)),
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let byte = self.data()?.first().copied().ok_or_else(|| damaged(NO_NUMBER))?;
        self.consume(1);
        Ok(byte)
    }
}

const NO_NUMBER: &str = "where a file has holes is no number";

fn spend(budget: &mut u64, count: u64) -> io::Result<()> {
    *budget = budget.checked_sub(count).ok_or_else(|| damaged("a file has too many holes"))?;
    Ok(())
}

fn parse(digits: &[u8]) -> io::Result<u64> {
    let text = str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| damaged(NO_NUMBER))
}

/// What a header of GNU tar's own form lists.
fn listed(headers: &[GnuSparseHeader]) -> io::Result<Vec<Extent>> {
    let used = headers.iter().filter(|header| !header.is_empty());
    used.map(|header| Ok(Extent { at: header.offset()?, length: header.length()? })).collect()
}

/// The forms 0.0 and 0.1: what is where is in records. None if there are none.
fn extents_in(member: &Member) -> io::Result<Option<Vec<Extent>>> {
    let mut numbers = Vec::new();
    let mut has_any = false;
    for (name, value) in member.pax.records() {
        match name {
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => numbers.push(parse(value)?),
            b"GNU.sparse.map" if value.is_empty() => {}
            b"GNU.sparse.map" => {
                numbers = value.split(|byte| *byte == b',').map(parse).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        has_any |= name.starts_with(b"GNU.sparse.");
    }
    let pairs = numbers.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(damaged(NO_NUMBER));
    }
    let extents = pairs.map(|pair| Extent { at: pair[0], length: pair[1] }).collect();
    Ok(has_any.then_some(extents))
}

/// Makes sure that extents follow each other, hold `data` bytes and end in a file of `size`.
fn check(extents: &[Extent], data: u64, size: u64) -> io::Result<()> {
    let mut end = 0;
    let mut held = 0;
    for extent in extents {
        let next = extent.at.checked_add(extent.length);
        match next {
            Some(next) if extent.at >= end && next <= size => end = next,
            _ => return Err(damaged("what a file's holes leave does not fit in it")),
        }
        held += extent.length;
    }
    match held == data {
        true => Ok(()),
        false => Err(damaged("what a file's holes leave is not what there is")),
    }
}
