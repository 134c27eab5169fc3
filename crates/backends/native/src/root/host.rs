//! What of the host makes up an image.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agentkernel_core::{BootError, Identity, Spec, c_string};

use super::{READ_ONLY, Step, Steps, TreeSource, resolver};

/// The directories with the machine's programs and libraries, where it has them. The links among
/// them are kept as links.
pub(super) const PROGRAMS: [&str; 9] =
    ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store", "gnu/store"];

/// The minimum of `/etc` without which programs fail that hold no secret: how to find libraries,
/// certificates and names. Everything else there stays out, and users are made up.
pub(super) const SETTINGS: [&str; 13] = [
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
    /// A root that is made here, with these of the machine's own programs and settings.
    ///
    /// Where the root is kept it is an overlay, and what is made here lies under it: so what the
    /// sandbox has changed is all that its layer holds.
    pub(super) fn own_image(
        &mut self,
        programs: &[&str],
        settings: &[&str],
        identity: &Identity,
        spec: &Spec,
    ) -> Result<(), BootError> {
        let base = if self.layers { "image" } else { "root" };
        self.directory(base, 0o755)?;
        let mut shown = Vec::new();
        for name in programs {
            self.host_path(base, Path::new("/"), name, &mut shown)?;
        }
        self.directory(&format!("{base}/etc"), 0o755)?;
        for name in settings {
            self.host_path(base, Path::new("/etc"), name, &mut shown)?;
        }
        self.directory(&format!("{base}/home"), 0o755)?;
        self.directory(&format!("{base}/var"), 0o755)?;
        self.directory(&format!("{base}/var/tmp"), 0o1777)?;
        let (passwd, group) = accounts(identity);
        for (name, content) in [
            ("passwd", passwd),
            ("group", group),
            ("hosts", HOSTS.into()),
            ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".into()),
        ] {
            self.file(&format!("{base}/etc/{name}"), content)?;
        }
        if let Some(text) = resolver(spec) {
            self.file(&format!("{base}/etc/resolv.conf"), text)?;
        }
        if self.layers {
            self.places_of_mounts(base, identity, spec)?;
            self.overlay(base, "root", "root")?;
        }
        for place in shown {
            let (source, path) = (Path::new("/").join(&place), place.as_os_str().as_bytes());
            let (source, restrictions) = (c_string(source.as_os_str().as_bytes())?, READ_ONLY);
            self.push(match self.layers {
                true => {
                    let (source, path) = (TreeSource::Local { path: source }, c_string(path)?);
                    Step::Tree { source, restrictions, path, inside: true }
                }
                false => {
                    let path = c_string([&b"root/"[..], path].concat())?;
                    Step::Bind { source, path, restrictions }
                }
            });
        }
        Ok(())
    }

    /// Places for what will be mounted in a root that is kept, so that they are no change of it.
    fn places_of_mounts(
        &mut self,
        base: &str,
        identity: &Identity,
        spec: &Spec,
    ) -> Result<(), BootError> {
        for name in ["dev", "proc", "run"] {
            self.directory(&format!("{base}/{name}"), 0o755)?;
        }
        self.directory(&format!("{base}/tmp"), 0o1777)?;
        self.directories(base, Path::new(identity.home.trim_matches('/')))?;
        for mount in &spec.mounts {
            let place = mount.target.strip_prefix("/").unwrap_or(&mount.target);
            let directories = match mount.source.is_dir() {
                true => Some(place),
                false => place.parent(),
            };
            self.directories(base, directories.unwrap_or(Path::new("")))?;
        }
        Ok(())
    }

    /// Makes a place for `name` of the host's directory `from`, if it exists, and notes it among
    /// those that are to be `shown` there, read-only. Links are kept as links.
    fn host_path(
        &mut self,
        base: &str,
        from: &Path,
        name: &str,
        shown: &mut Vec<PathBuf>,
    ) -> Result<(), BootError> {
        let source = from.join(name);
        let Ok(metadata) = fs::symlink_metadata(&source) else {
            return Ok(());
        };
        let place = source.strip_prefix("/").unwrap_or(&source);
        let path = c_string(Path::new(base).join(place).as_os_str().as_bytes())?;
        if metadata.is_symlink() {
            let Ok(target) = fs::read_link(&source) else {
                return Ok(());
            };
            let target = c_string(target.as_os_str().as_bytes())?;
            self.push(Step::Link { path, target });
            return Ok(());
        }
        if metadata.is_dir() {
            // Only two of them lie deeper than what is there already.
            if name.contains('/') {
                self.directories(base, place)?;
            }
            self.push(Step::Directory { path, mode: 0o755 });
        } else {
            self.push(Step::File { path, content: Vec::new() });
        }
        shown.push(place.to_owned());
        Ok(())
    }
}

/// The users and the groups that the image has: the sandbox's own, root and nobody.
pub fn accounts(identity: &Identity) -> (String, String) {
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
    (passwd, group)
}

/// What [`HOSTS`] has, and the agent names the place.
pub(super) const HOST_NAME: &str = "agentkernel";

pub(super) const HOSTS: &str =
    "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 agentkernel\n";
