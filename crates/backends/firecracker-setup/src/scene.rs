//! Small kernels, modules and packages, for tests.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use md5::{Digest, Md5};

use agentkernel_core::hex;

pub const VERSION: &str = "6.12.1-cloud";

/// A folder that goes with its owner.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("agentkernel-setup-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What looks like a kernel for the processor of this number.
pub fn vmlinux(version: &str, processor: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    bytes.extend([processor, 0]);
    bytes.extend([7; 3000]);
    bytes.extend(format!("Linux version {version} (somebody) #1 SMP").bytes());
    bytes.extend([0; 300]);
    bytes
}

/// A `vmlinuz` of what was packed.
pub fn vmlinuz(version: &str, packed: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[0x1f1] = 1;
    bytes[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    bytes[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
    let size = match packed {
        // Which has it itself.
        [0x1f, 0x8b, ..] => Vec::new(),
        _ => (size as u32).to_le_bytes().into(),
    };
    let length = (packed.len() + size.len()) as u32;
    bytes[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
    let text = format!("{version} (somebody) #1 SMP\0");
    bytes[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    bytes.extend([0; 16]);
    bytes.extend(packed);
    bytes.extend(size);
    bytes.extend([9; 100]);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::default();
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    xz.write_all(bytes).unwrap();
    xz.finish().unwrap()
}

/// A kernel as it is installed.
pub fn kernel(version: &str) -> Vec<u8> {
    let vmlinux = vmlinux(version, 62);
    vmlinuz(version, &zstd::encode_all(vmlinux.as_slice(), 1).unwrap(), vmlinux.len())
}

/// A module that says this of itself.
pub fn module(version: &str, facts: &[&str]) -> Vec<u8> {
    let text: String = facts.iter().map(|fact| format!("{fact}\0")).collect();
    let text = format!("vermagic={version} SMP\0{text}");
    let names = b"\0.modinfo\0.shstrtab\0";
    let (at, names_at) = (64, 64 + text.len());
    let sections = names_at + names.len();
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend(value.to_le_bytes());
    half(&mut bytes, 1);
    half(&mut bytes, 62);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend((sections as u64).to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    [64, 0, 0, 64, 3, 2].into_iter().for_each(|value| half(&mut bytes, value));
    bytes.extend(text.as_bytes());
    bytes.extend(names);
    bytes.extend([0; 64]);
    for (name, kind, start, size) in [(1, 1, at, text.len()), (10, 3, names_at, names.len())] {
        bytes.extend(u32::to_le_bytes(name));
        bytes.extend(u32::to_le_bytes(kind));
        let words = [0, 0, start as u64, size as u64, 0, 1, 0];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    bytes
}

/// The modules that machines need, with what those need, as files below `lib/modules/VERSION`.
pub fn modules(version: &str) -> Vec<(String, Vec<u8>)> {
    let all: [(&str, &[&str]); 11] = [
        ("drivers/virtio/virtio_mmio.ko", &["depends=virtio_ring"]),
        ("drivers/block/virtio_blk.ko.xz", &["depends="]),
        ("net/vmw_vsock/vsock.ko", &[]),
        (
            "net/vmw_vsock/vmw_vsock_virtio_transport.ko.zst",
            &["depends=vmw_vsock_virtio_transport_common,vsock"],
        ),
        ("net/vmw_vsock/vmw_vsock_virtio_transport_common.ko", &["depends=vsock"]),
        ("drivers/char/hw_random/virtio-rng.ko.gz", &[]),
        ("lib/libcrc32c.ko", &["softdep=pre: crc32c post: later"]),
        ("arch/x86/crypto/crc32c-intel.ko", &["alias=crc32c", "alias=crypto-crc32c"]),
        ("fs/erofs/erofs.ko", &["depends=libcrc32c"]),
        ("fs/overlayfs/overlay.ko", &[]),
        ("drivers/net/tun.ko.xz", &["depends="]),
    ];
    let packed = |(path, facts): (&str, &[&str])| {
        let bytes = module(version, facts);
        let bytes = match path.rsplit_once('.') {
            Some((_, "xz")) => xz(&bytes),
            Some((_, "zst")) => zstd::encode_all(bytes.as_slice(), 1).unwrap(),
            Some((_, "gz")) => gzip(&bytes),
            _ => bytes,
        };
        (format!("lib/modules/{version}/kernel/{path}"), bytes)
    };
    let builtin = "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_ring.ko\n";
    let builtin = (format!("lib/modules/{version}/modules.builtin"), builtin.into());
    all.map(packed).into_iter().chain([builtin]).collect()
}

/// The order in which those are loaded.
pub const ORDER: &str = "virtio_mmio.ko\nvirtio_blk.ko\nvsock.ko\n\
                         vmw_vsock_virtio_transport_common.ko\nvmw_vsock_virtio_transport.ko\n\
                         crc32c-intel.ko\nlibcrc32c.ko\nerofs.ko\noverlay.ko\nvirtio-rng.ko\n";

/// All that a package of a kernel has.
pub fn files(version: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = modules(version);
    all.push((format!("boot/vmlinuz-{version}"), kernel(version)));
    all.push((format!("boot/config-{version}"), config().into_bytes()));
    all
}

pub fn config() -> String {
    let all = "64BIT BLK_DEV_INITRD DEVTMPFS TMPFS PID_NS UTS_NS IPC_NS MEMCG CGROUP_PIDS \
               CFS_BANDWIDTH SECCOMP_FILTER ACPI MODULES SECURITY_LANDLOCK";
    all.split(' ').map(|name| format!("CONFIG_{name}=y\n")).collect()
}

/// The same, installed.
pub fn install(root: &Path, version: &str) {
    for (name, bytes) in files(version) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// An archive of ar's.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let size = content.len();
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644).bytes());
        bytes.extend(*content);
        bytes.extend(&b"\n"[..content.len() % 2]);
    }
    bytes
}

pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // It would refuse names that lead elsewhere.
        let name = format!("./{name}");
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append(&header, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A Debian package of them.
pub fn package(files: &[(String, Vec<u8>)], sums: Option<&str>) -> Vec<u8> {
    let sums = sums.map(|sums| ("md5sums".to_owned(), sums.as_bytes().to_vec()));
    let control = tar(&[("control".to_owned(), b"Package: x\n".to_vec())]
        .into_iter()
        .chain(sums)
        .collect::<Vec<_>>());
    let (control, data) = (gzip(&control), xz(&tar(files)));
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.xz", &data)];
    ar(&members)
}

/// The digests that a package has of its files.
pub fn sums(files: &[(String, Vec<u8>)]) -> String {
    files.iter().map(|(name, bytes)| format!("{}  {name}\n", hex(&Md5::digest(bytes)))).collect()
}
