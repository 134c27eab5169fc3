//! Archives that tests make.

use tar::{Builder, EntryType, Header};

/// The archive of a layer in the making.
pub struct Archive(Builder<Vec<u8>>);

/// What a member has besides its path and its content.
pub struct Member {
    pub kind: EntryType,
    pub mode: u32,
    pub owner: (u32, u32),
    /// As an extended header has it, such as `12.5`.
    pub mtime: String,
    pub target: Vec<u8>,
    pub device: (u32, u32),
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    /// Of root's, from the second 1000.
    pub fn new(kind: EntryType, mode: u32) -> Self {
        Self {
            kind,
            mode,
            owner: (0, 0),
            mtime: "1000".into(),
            target: Vec::new(),
            device: (0, 0),
            attributes: Vec::new(),
        }
    }

    pub fn attribute(mut self, name: &[u8], value: &[u8]) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    pub fn mtime(self, mtime: &str) -> Self {
        Self { mtime: mtime.into(), ..self }
    }
}

impl Archive {
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Appends any member, with all that its header may have no room for.
    pub fn add(&mut self, path: &[u8], member: &Member, data: &[u8]) {
        let (uid, gid) = member.owner;
        let numbers = [("uid", uid.to_string()), ("gid", gid.to_string())];
        let mut records: Vec<(String, Vec<u8>)> =
            vec![("path".into(), path.into()), ("mtime".into(), member.mtime.clone().into_bytes())];
        records.extend(numbers.map(|(name, number)| (name.into(), number.into_bytes())));
        if !member.target.is_empty() {
            records.push(("linkpath".into(), member.target.clone()));
        }
        for (name, value) in &member.attributes {
            let name = [b"SCHILY.xattr.", name.as_slice()].concat();
            records.push((String::from_utf8(name).unwrap(), value.clone()));
        }
        let records = records.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.0.append_pax_extensions(records).unwrap();
        let mut header = Header::new_ustar();
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_size(data.len() as u64);
        header.as_old_mut().name[0] = b'x';
        if matches!(member.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(member.device.0).unwrap();
            header.set_device_minor(member.device.1).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, data).unwrap();
    }

    fn with(mut self, path: &str, member: &Member, data: &[u8]) -> Self {
        self.add(path.as_bytes(), member, data);
        self
    }

    pub fn member(self, path: &str, member: Member) -> Self {
        self.with(path, &member, b"")
    }

    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.with(path, &Member::new(EntryType::Directory, mode), b"")
    }

    pub fn file(self, path: &str, text: &str) -> Self {
        self.with(path, &Member::new(EntryType::Regular, 0o644), text.as_bytes())
    }

    /// A file of this length, with bytes that depend on where they are.
    pub fn long(self, path: &str, length: usize) -> Self {
        self.with(path, &Member::new(EntryType::Regular, 0o644), &bytes(length as u64, length))
    }

    fn link(self, kind: EntryType, path: &str, target: &str) -> Self {
        let member = Member { target: target.into(), ..Member::new(kind, 0o777) };
        self.with(path, &member, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    pub fn device(self, kind: EntryType, path: &str, major: u32, minor: u32) -> Self {
        let member = Member { device: (major, minor), ..Member::new(kind, 0o620) };
        self.with(path, &member, b"")
    }

    pub fn whiteout(self, parent: &str, name: &str) -> Self {
        self.file(&format!("{parent}.wh.{name}"), "")
    }

    pub fn opaque(self, parent: &str) -> Self {
        self.file(&format!("{parent}.wh..wh..opq"), "")
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Bytes that are others for each seed, and never all zeros.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}
