//! Where it is written down what the agent of a place that goes on without its bridge wants to hear.

use std::fs;
use std::io;
use std::path::PathBuf;

use agentkernel_core::hex;
use agentkernel_sys::machine;

/// What nobody can guess.
pub fn random() -> io::Result<[u8; 16]> {
    let mut random = [0; 16];
    machine::random(&mut random)?;
    Ok(random)
}

/// A file in a sandbox's folder, which is there as long as the place is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    pub path: PathBuf,
    /// What is written down, if anything is.
    pub key: Option<[u8; 16]>,
}

impl KeyFile {
    /// What is at `path`. Fails with `InvalidData` if that was not written by [`write`](Self::write).
    pub fn read(path: PathBuf) -> io::Result<Self> {
        let key = match fs::read_to_string(&path) {
            Ok(text) => Some(of_hex(&text).ok_or(io::ErrorKind::InvalidData)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, key })
    }

    /// Writes it down, whole or not at all.
    pub fn write(&self, key: &[u8; 16]) -> io::Result<()> {
        let part = self.path.with_extension("part");
        fs::write(&part, hex(key))?;
        fs::rename(part, &self.path)
    }
}

/// What a key's text stands for.
pub fn of_hex(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_hex).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let file = KeyFile::read(path.clone()).unwrap();
        assert_eq!(file.key, None);
        let key = random().unwrap();
        file.write(&key).unwrap();
        assert_eq!(KeyFile::read(path.clone()).unwrap().key, Some(key));
        for other in ["", "00", "+0000000000000000000000000000000", &"0".repeat(33)] {
            fs::write(&path, other).unwrap();
            assert_eq!(KeyFile::read(path.clone()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
