//! What a layer has besides what a copy keeps: the attributes that users may set, an overlay's own among them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{XattrFlags, fsetxattr};

use crate::directory::{attribute, attributes};

/// The name under which an archive tells them.
pub(super) const KEY: &str = "AGENTKERNEL.attributes";
const PREFIX: &[u8] = b"user.";
/// How long their names and values may be together, in bytes. A file system has less room for them as a rule.
const MOST: usize = 128 << 10;

/// Those of what is open, as a text; nothing if it has none. What is too long is left out.
pub(super) fn read(file: impl AsFd) -> io::Result<Option<String>> {
    let (mut text, mut length) = (String::new(), 0);
    for name in attributes(&file)? {
        if !name.as_bytes().starts_with(PREFIX) {
            continue;
        }
        let Some(value) = attribute(&file, &name)? else { continue };
        length += name.len() + value.len();
        if length > MOST {
            break;
        }
        put(&mut text, name.as_bytes());
        text.push('=');
        put(&mut text, &value);
        text.push(',');
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Gives them to what is open. No others can be told.
pub(super) fn write(file: impl AsFd, text: &str) -> io::Result<()> {
    for one in text.split_terminator(',') {
        let parts = one.split_once('=').and_then(|(name, value)| Some((take(name)?, take(value)?)));
        let parts = parts.filter(|(name, _)| name.starts_with(PREFIX) && !name.contains(&0));
        let (name, value) = parts.ok_or(io::ErrorKind::InvalidData)?;
        fsetxattr(&file, OsStr::from_bytes(&name), &value, XattrFlags::empty())?;
    }
    Ok(())
}

fn put(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn take(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(high)? << 4 | digit(low)?).ok();
    pairs.iter().map(byte).collect()
}
