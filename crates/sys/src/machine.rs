//! What the machine has.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// All memory of the machine, in bytes.
pub fn memory_bytes() -> io::Result<u64> {
    // SAFETY: sysinfo fills the whole structure if it succeeds, and it has no invalid values.
    let info = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        crate::check(libc::sysinfo(&raw mut info))?;
        info
    };
    Ok(info.totalram * u64::from(info.mem_unit))
}

/// How many processors the machine has online, up to 1024: those that a process may be put on
/// unless it was told otherwise.
pub fn processors() -> u32 {
    // SAFETY: the set has the size that the call is told, and all-zero is a valid set.
    let count = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        // Process 1 is never told otherwise in practice; ourselves we may have been.
        let size = size_of::<libc::cpu_set_t>();
        match libc::sched_getaffinity(1, size, &raw mut set) {
            0 => libc::CPU_COUNT(&set),
            _ => libc::sysconf(libc::_SC_NPROCESSORS_ONLN) as i32,
        }
    };
    u32::try_from(count).unwrap_or(1).max(1)
}

/// Fills `bytes` with random ones of the kernel's, by a call that takes no descriptor: what others keep one
/// open for is gone, or another file, where descriptors were closed. Child-safe.
pub fn random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the kernel writes no more than the length that it is told.
        let filled =
            crate::retry(|| unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
        bytes = &mut bytes[filled.unsigned_abs()..];
    }
    Ok(())
}

/// Mixes `seed` into the kernel's random numbers, which from then on are others than those of any copy
/// of this machine. For its administrator.
pub fn reseed(seed: &[u8; 32]) -> io::Result<()> {
    /// `struct rand_pool_info` of linux/random.h.
    #[repr(C)]
    struct Pool {
        entropy_bits: libc::c_int,
        bytes: libc::c_int,
        seed: [u8; 32],
    }
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let random = crate::descriptor::open_write(c"/dev/urandom")?;
    let pool = Pool { entropy_bits: 256, bytes: 32, seed: *seed };
    // SAFETY: the kernel reads the pool, which has the form and size that it says.
    crate::check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, &raw const pool) })?;
    // SAFETY: no memory is involved.
    crate::check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG as _) }).map(drop)
}

/// Sets the machine's clock to this time since 1970. For its administrator.
pub fn set_clock(time: std::time::Duration) -> io::Result<()> {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(time.subsec_nanos().cast_signed()),
    };
    // SAFETY: the kernel only reads the time, which lives as long as the call.
    crate::check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }).map(drop)
}

/// Has the kernel take in the module in this file. For the machine's administrator.
pub fn load_module(file: &fs::File) -> io::Result<()> {
    // SAFETY: the options end with a NUL.
    crate::check(unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0)
    })
    .map(drop)
}

/// Starts the machine anew, at once and without writing anything back. For its administrator; it
/// returns only if that fails.
pub fn reboot() -> io::Error {
    // SAFETY: no memory is involved.
    match crate::check(unsafe { libc::reboot(libc::RB_AUTOBOOT) }) {
        Err(error) => error,
        Ok(_) => io::ErrorKind::Other.into(),
    }
}

/// A kernel setting under `/proc/sys`, if it exists and can be read.
pub fn setting(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|s| s.trim().to_owned())
}

/// What is to be said of virtual machines in a [virtual one](is_virtual).
pub const NESTED: &str = "this machine is a virtual one, so its KVM is nested or emulated, and slower \
                          than that of hardware";

/// Whether the machine is a virtual one, as its processor says. What can't be found out is taken not
/// to be so.
#[cfg(target_arch = "x86_64")]
pub fn is_virtual() -> bool {
    // Kept free for hypervisors to set: AMD64 Architecture Programmer's Manual, CPUID Fn0000_0001_ECX.
    const HYPERVISOR: u32 = 1 << 31;
    std::arch::x86_64::__cpuid(1).ecx & HYPERVISOR != 0
}

#[cfg(not(target_arch = "x86_64"))]
pub const fn is_virtual() -> bool {
    false
}

/// Whether a tmpfs keeps attributes that users may set (`user.*`), as it does since Linux 6.6. What
/// can't be found out is taken to be so.
pub fn tmpfs_keeps_user_attributes() -> bool {
    // A file in memory is in a tmpfs of the kernel's own.
    // SAFETY: the name ends with a NUL.
    let fd = crate::check(unsafe { libc::memfd_create(c"attributes".as_ptr(), libc::MFD_CLOEXEC) });
    let Ok(fd) = fd else { return true };
    // SAFETY: the kernel has just opened it, and nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    let name = c"user.agentkernel";
    // SAFETY: the name ends with a NUL, and of the value no byte is read.
    let set = crate::check(unsafe {
        libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null(), 0, 0)
    });
    !set.is_err_and(|error| error.raw_os_error() == Some(libc::ENOTSUP))
}
