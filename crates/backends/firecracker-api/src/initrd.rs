//! The initial root of machines: the agent's program, and modules of their kernel. It is made once for
//! each version of those, and kept.

use agentkernel_core::hex;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentkernel_containers::AGENT;
use agentkernel_firecracker::machine::{MODULES, NETWORK_ORDER, ORDER};
use sha2::{Digest, Sha256};

use crate::stamp;

/// Something in it.
struct Part {
    /// Without a leading slash.
    name: String,
    /// A directory if there is none.
    file: Option<(PathBuf, Metadata)>,
}

/// Where it is in `folder`, made if it is not there yet.
pub fn find(folder: &Path, agent: &Path, modules: Option<&Path>) -> io::Result<PathBuf> {
    let parts = parts(agent, modules)?;
    let path = folder.join(format!("initrd-{}", key(&parts)));
    if path.exists() {
        return Ok(path);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = folder.join(format!("{}.part", agentkernel_containers::own_name()));
    let made = write(&draft, &parts)
        // Firecracker may be another user.
        .and_then(|()| fs::set_permissions(&draft, Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&draft, &path));
    if made.is_err() {
        // It may never have been there.
        let _ = fs::remove_file(&draft);
    }
    made.map(|()| path)
}

fn parts(agent: &Path, modules: Option<&Path>) -> io::Result<Vec<Part>> {
    let name = |path: &str| path.trim_start_matches('/').to_owned();
    let file = |name: String, path: PathBuf| {
        let found = fs::metadata(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok::<_, io::Error>(Part { name, file: Some((path, found)) })
    };
    let above = Path::new(AGENT).parent().and_then(Path::to_str).unwrap_or_default();
    let mut parts = vec![
        Part { name: "dev".into(), file: None },
        Part { name: name(above), file: None },
        file(name(AGENT), agent.to_owned())?,
    ];
    if let Some(modules) = modules {
        parts.push(Part { name: name(MODULES), file: None });
        for order in [ORDER, NETWORK_ORDER] {
            let path = modules.join(order);
            let all = match fs::read_to_string(&path) {
                // Without a network there is nothing that it takes.
                Err(error) if order != ORDER && error.kind() == io::ErrorKind::NotFound => continue,
                all => all.map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                })?,
            };
            for module in [order].into_iter().chain(all.lines()) {
                parts.push(file(format!("{}/{module}", name(MODULES)), modules.join(module))?);
            }
        }
    }
    Ok(parts)
}

/// What tells these files from others, without reading them.
fn key(parts: &[Part]) -> String {
    let mut hasher = Sha256::new();
    for Part { name, file } in parts {
        hasher.update(name);
        if let Some((path, found)) = file {
            hasher.update(format!(" {path:?} {}\n", stamp::of(found)));
        }
    }
    hex(&hasher.finalize()[..16])
}

/// Writes an archive of the kind that kernels unpack (initramfs-buffer-format: `newc`).
fn write(path: &Path, parts: &[Part]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create_new(path)?);
    for (number, Part { name, file }) in parts.iter().enumerate() {
        let number = number as u64 + 1;
        match file {
            None => header(&mut out, name, number, 0o040_755, 0)?,
            Some((path, found)) => {
                header(&mut out, name, number, 0o100_755, found.size())?;
                let copied = io::copy(&mut File::open(path)?, &mut out)?;
                if copied != found.size() {
                    return Err(io::Error::other(format!("{} has changed", path.display())));
                }
                pad(&mut out, copied)?;
            }
        }
    }
    header(&mut out, "TRAILER!!!", 0, 0, 0)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn header(out: &mut impl Write, name: &str, number: u64, mode: u64, size: u64) -> io::Result<()> {
    let length = name.len() as u64 + 1;
    // Owner and group, names, time, size, four numbers of devices, the name's length, no sum.
    let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0];
    out.write_all(b"070701")?;
    for field in fields {
        write!(out, "{field:08x}")?;
    }
    write!(out, "{name}\0")?;
    pad(out, 6 + 8 * fields.len() as u64 + length)
}

/// All begins at a multiple of four.
fn pad(out: &mut impl Write, written: u64) -> io::Result<()> {
    let missing = written.next_multiple_of(4) - written;
    out.write_all(&[0; 3][..missing as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files_are_padded_as_kernels_want_them() {
        let mut out = Vec::new();
        header(&mut out, "abc", 1, 0o100_755, 5).unwrap();
        assert!(out.starts_with(b"07070100000001000081ed"), "{}", String::from_utf8_lossy(&out));
        assert_eq!(out.len() % 4, 0);
        assert_eq!(&out[6 + 13 * 8..][..4], b"abc\0");
    }
}
