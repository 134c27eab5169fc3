//! What of the host makes up an image.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agentkernel_core::{BootError, Spec};

use super::{READ_ONLY, Step, Steps, c_string, resolver};
use crate::identity::Identity;

/// The directories with the machine's programs and libraries, where it has them. The links among
/// them are kept as links.
const PROGRAMS: [&str; 9] =
    ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store", "gnu/store"];

/// The minimum of `/etc` without which programs fail that hold no secret: how to find libraries,
/// certificates and names. Everything else there stays out, and users are made up.
const SETTINGS: [&str; 13] = [
    "alternatives",
    "crypto-policies",
    "fonts",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "os-release",
    "pki",
    "protocols",
    "services",
    "ssl",
    "terminfo",
    "timezone",
];

impl Steps {
    /// The machine's own programs, with the least that they need.
    pub(super) fn host_image(&mut self, identity: &Identity, spec: &Spec) -> Result<(), BootError> {
        for name in PROGRAMS {
            self.host_path(Path::new("/"), name)?;
        }
        self.directory("root/etc", 0o755)?;
        for name in SETTINGS {
            self.host_path(Path::new("/etc"), name)?;
        }
        self.directory("root/home", 0o755)?;
        self.directory("root/var", 0o755)?;
        self.directory("root/var/tmp", 0o1777)?;
        let Identity { uid, gid, name, home } = identity;
        let mut passwd = format!("{name}:x:{uid}:{gid}::{home}:/bin/sh\n");
        let mut group = format!("{name}:x:{gid}:\n");
        for (known, number) in [("root", 0), ("nobody", 65534)] {
            if *uid != number {
                passwd += &format!("{known}:x:{number}:{number}::/nonexistent:/bin/false\n");
            }
            if *gid != number {
                group += &format!("{}:x:{number}:\n", if number == 0 { "root" } else { "nogroup" });
            }
        }
        self.setting("passwd", passwd)?;
        self.setting("group", group)?;
        self.setting("hosts", HOSTS)?;
        self.setting("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")?;
        resolver(spec).map_or(Ok(()), |text| self.setting("resolv.conf", text))
    }

    /// Shows `name` of the host's directory `from` at the same place, read-only, if it exists.
    fn host_path(&mut self, from: &Path, name: &str) -> Result<(), BootError> {
        let source = from.join(name);
        let Ok(metadata) = fs::symlink_metadata(&source) else {
            return Ok(());
        };
        let place = source.strip_prefix("/").unwrap_or(&source);
        let path = c_string(Path::new("root").join(place).as_os_str().as_bytes())?;
        if metadata.is_symlink() {
            let Ok(target) = fs::read_link(&source) else {
                return Ok(());
            };
            let target = c_string(target.as_os_str().as_bytes())?;
            self.0.push(Step::Link { path, target });
            return Ok(());
        }
        if metadata.is_dir() {
            // Only two of them lie deeper than what is there already.
            if name.contains('/') {
                self.directories(&place.to_string_lossy())?;
            }
            self.0.push(Step::Directory { path: path.clone(), mode: 0o755 });
        } else {
            self.0.push(Step::File { path: path.clone(), content: Vec::new() });
        }
        let source = c_string(source.as_os_str().as_bytes())?;
        self.0.push(Step::Bind { source, path, restrictions: READ_ONLY });
        Ok(())
    }

    fn setting(&mut self, name: &str, content: impl Into<Vec<u8>>) -> Result<(), BootError> {
        self.file(&format!("root/etc/{name}"), content)
    }
}

pub(super) const HOSTS: &str =
    "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 agentkernel\n";
