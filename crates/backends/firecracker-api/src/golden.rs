//! Machines that were booted once and saved, so that many can be copies of them.
//!
//! A golden machine listens for its host and has made its root, and nothing of one sandbox is in it but
//! what its like have in common. Its copies are told apart by what they are told first
//! ([`Order::Begin`]), and each of them is used once.
//!
//! Firecracker restores whatever it is given: on another processor, and with a memory that is not what
//! was saved (FACTS.md). So a golden machine is looked for by its **likeness**, in which all is that it
//! was made of, the processor and the kernel of the host included; and its files are known again.

use agentkernel_core::hex;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use agentkernel_containers::Setting;
use agentkernel_far::word;
use agentkernel_firecracker::Origin;
use agentkernel_firecracker::words::{Making, Order, Reply};
use rustix::fs::{FlockOperation, OFlags, SeekFrom, flock, seek};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arguments::BOOT_ARGUMENTS;
use crate::jail::Jail;
use crate::plan::{Golden, Plan};
use crate::stamp;
use crate::vmm::{Machine, MachineError, SAVED, failed};

/// In the folder of all that machines need.
const FOLDER: &str = "golden";

/// What else is in the folder of one.
const ABOUT: &str = "about.json";

/// How long one is kept that nobody has made a copy of.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long a machine may take for its root.
const ANSWER: Duration = Duration::from_secs(30);

/// So often it is tried anew, with one that was made anew.
const TRIES: usize = 3;

/// What is known of a saved machine.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    plan: Plan,
    /// In the order of [`SAVED`].
    files: [Known; 2],
}

/// By what a file is known again: by its stamp, without reading it, or else by what is in it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    stamp: String,
    digest: String,
}

/// If it is `none`, machines of pools boot, too: where copies turn out to be of no use.
pub const VARIABLE: &str = "FIRECRACKER_SNAPSHOTS";

impl Golden {
    /// The one that a machine from `origin` is to be a copy of, of `plan`, with a root of `making` and set to
    /// be this.
    pub fn from(
        origin: Origin,
        plan: &Plan,
        (making, setting): (&Making, &Setting),
        folder: &Path,
    ) -> io::Result<Option<Self>> {
        let unwanted = std::env::var_os(VARIABLE).is_some_and(|value| value == "none");
        let none = match origin {
            Origin::Boot => true,
            // Most often there are no pools, and no need to know which it would be.
            Origin::Saved => !folder.join(FOLDER).exists(),
            Origin::Shared => false,
        };
        if unwanted || none {
            return Ok(None);
        }
        let golden = Self::of(plan, making.clone(), setting.clone(), folder)?;
        Ok((origin == Origin::Shared || is_whole(&golden.folder)).then_some(golden))
    }

    fn of(plan: &Plan, making: Making, setting: Setting, folder: &Path) -> io::Result<Self> {
        let name = likeness(plan, &making, &setting)?;
        Ok(Self { folder: folder.join(FOLDER).join(name), making, setting })
    }
}

/// A digest of all that makes a difference between machines before they are told apart.
fn likeness(plan: &Plan, making: &Making, setting: &Setting) -> io::Result<String> {
    let plan = Plan { golden: None, ..plan.clone() };
    let disks = plan.disks.iter().map(|disk| &disk.path);
    let files = [&plan.program, &plan.kernel, &plan.initrd].into_iter().chain(disks);
    let stamps = files.map(|path| Ok(stamp::of(&fs::metadata(path)?)));
    let stamps = stamps.collect::<io::Result<Vec<_>>>()?;
    let all = (plan, making, setting, stamps, BOOT_ARGUMENTS, host()?);
    let digest = Sha256::digest(serde_json::to_vec(&all)?);
    Ok(hex(&digest[..16]))
}

/// What of this machine a machine depends on: the processor, and the kernel that shows it. To ask for a
/// processor's speed, which is told with it, takes some kernels ten milliseconds: so once.
fn host() -> io::Result<&'static str> {
    static HOST: OnceLock<String> = OnceLock::new();
    match HOST.get() {
        Some(host) => Ok(host),
        None => {
            let found = look_at_host()?;
            Ok(HOST.get_or_init(|| found))
        }
    }
}

fn look_at_host() -> io::Result<String> {
    /// Of what `/proc/cpuinfo` says of a processor (proc_cpuinfo(5)).
    const SAID: [&str; 7] =
        ["vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags"];
    /// More than is said of one, and less than of hundreds, each of which takes its time.
    const FIRST: u64 = 16 << 10;
    let mut processors = Vec::new();
    File::open("/proc/cpuinfo")?.take(FIRST).read_to_end(&mut processors)?;
    let processors = String::from_utf8_lossy(&processors);
    let first = processors.lines().take_while(|line| !line.is_empty());
    let said = first
        .filter(|line| line.split_once(':').is_some_and(|(name, _)| SAID.contains(&name.trim())));
    let kernel = fs::read_to_string("/proc/version")?;
    Ok(said.chain([&*kernel]).collect::<Vec<_>>().join("\n"))
}

/// A machine of `plan`, which has its root.
pub fn copy(plan: &Plan, golden: &Golden) -> Result<Machine, MachineError> {
    let mut tries = 0..TRIES;
    loop {
        let turn = Turn::take(&golden.folder, FlockOperation::LockShared)?;
        let refused = match is_whole(&golden.folder) {
            true => match Machine::restore(plan, &golden.folder) {
                Ok(machine) => {
                    turn.note_use();
                    return Ok(machine);
                }
                Err(error) => Some(error),
            },
            false => None,
        };
        drop(turn);
        let is_last = tries.next().is_none();
        match refused {
            Some(error) if is_last => return Err(error),
            // It is of no use, for whatever reason: the next one may be.
            refused => make(plan, golden, refused.is_some())?,
        }
    }
}

/// Boots a golden machine, and saves it, unless somebody else has meanwhile.
fn make(plan: &Plan, golden: &Golden, anew: bool) -> Result<(), MachineError> {
    let what = "can't keep a machine that others are copies of";
    let _alone = Turn::take(&golden.folder, FlockOperation::LockExclusive)?;
    if is_whole(&golden.folder) && !anew {
        return Ok(());
    }
    let draft = golden.folder.with_extension("part");
    for left in [&draft, &golden.folder] {
        clear(left).map_err(failed(what))?;
    }
    DirBuilder::new().mode(0o700).create(&draft).map_err(failed(what))?;
    let made = fill(plan, golden, &draft)
        .and_then(|()| fs::rename(&draft, &golden.folder).map_err(failed(what)));
    if made.is_err() {
        // The next one who makes it tries again.
        let _ = clear(&draft);
    }
    made
}

fn fill(plan: &Plan, golden: &Golden, draft: &Path) -> Result<(), MachineError> {
    let what = "can't save a machine";
    let machine = Machine::boot_to_save(plan, draft)?;
    prepare(&machine, golden)?;
    machine.save()?;
    Jail::take_back(plan.jail, draft).map_err(failed(what))?;
    let known = |name| {
        let file = open_saved(draft, name)?;
        // It is believed later by its stamp.
        file.sync_all()?;
        Known::of(&file)
    };
    let [state, memory] = SAVED.map(known);
    let files = [state.map_err(failed(what))?, memory.map_err(failed(what))?];
    write_about(draft, &About { plan: plan.clone(), files }).map_err(failed(what))
}

/// Has the machine do all that its copies have done then.
fn prepare(machine: &Machine, golden: &Golden) -> Result<(), MachineError> {
    let host = machine.connect()?;
    obeyed(&host, &Order::Make(golden.making.clone()))?;
    obeyed(&host, &Order::Prepare(golden.setting.clone()))
}

fn obeyed(host: &OwnedFd, order: &Order) -> Result<(), MachineError> {
    let unheard = || failed("the machine does not answer");
    word::write(host.as_fd(), order).map_err(unheard())?;
    match word::read(host.as_fd(), ANSWER).map_err(unheard())? {
        Reply::Done => Ok(()),
        Reply::Failed { why } => Err(MachineError::Unmade { why }),
        // One of many has no folders, and has not begun.
        Reply::Wants { .. } | Reply::Begun(_) => Err(unheard()(io::ErrorKind::InvalidData.into())),
    }
}

fn write_about(folder: &Path, about: &About) -> io::Result<()> {
    let draft = folder.join(format!("{ABOUT}.part"));
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    serde_json::to_writer(&file, about)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(ABOUT))
}

/// Whether what is saved in `folder` is what was saved there.
fn is_whole(folder: &Path) -> bool {
    known_again(folder).unwrap_or(false)
}

fn known_again(folder: &Path) -> io::Result<bool> {
    let mut about = read_about(folder)?;
    let mut moved = false;
    for (name, known) in SAVED.iter().zip(&mut about.files) {
        let file = open_saved(folder, name)?;
        if stamp::of(&file.metadata()?) == known.stamp {
            continue;
        }
        // It may have been put somewhere else, or put back.
        let found = Known::of(&file)?;
        if found.digest != known.digest {
            return Ok(false);
        }
        (*known, moved) = (found, true);
    }
    if moved {
        write_about(folder, &about)?;
    }
    Ok(true)
}

/// Opens one of [`SAVED`]. Firecracker has made it, and is not believed to have made no link.
fn open_saved(folder: &Path, name: &str) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(folder.join(name))
}

fn read_about(folder: &Path) -> io::Result<About> {
    let file = BufReader::new(File::open(folder.join(ABOUT))?);
    Ok(serde_json::from_reader(file)?)
}

impl Known {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { stamp: stamp::of(&found), digest: digest(file, found.size())? })
    }
}

/// A digest of how long a file is and what is in it. Where nothing but zeros is makes no difference to it,
/// whether they take space or not.
fn digest(file: &File, size: u64) -> io::Result<String> {
    const BLOCK: usize = 64 << 10;
    let mut hasher = Sha256::new();
    hasher.update(size.to_le_bytes());
    let (mut buffer, mut at) = (vec![0; BLOCK], 0);
    while at < size {
        // Holes are not read: most of a memory has never been used.
        at = match seek(file, SeekFrom::Data(at)) {
            Err(rustix::io::Errno::NXIO) => break,
            found => found?.max(at),
        };
        at -= at % BLOCK as u64;
        let most = usize::try_from(size - at).unwrap_or(BLOCK).min(BLOCK);
        file.read_exact_at(&mut buffer[..most], at)?;
        if buffer[..most].iter().any(|byte| *byte != 0) {
            hasher.update(at.to_le_bytes());
            hasher.update(&buffer[..most]);
        }
        at += BLOCK as u64;
    }
    Ok(hex(&hasher.finalize()))
}

/// Removes a folder, which may not be there.
fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A turn at one golden machine: shared by those who make copies of it, and alone for who makes it. It
/// ends with whoever has it.
struct Turn(File);

impl Turn {
    fn take(folder: &Path, how: FlockOperation) -> Result<Self, MachineError> {
        let what = "can't wait for a machine that others are copies of";
        let path = Self::path(folder);
        if let Some(above) = path.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(above).map_err(failed(what))?;
        }
        loop {
            let turn = Self::open(&path).map_err(failed(what))?;
            flock(&turn, how).map_err(|errno| failed(what)(errno.into()))?;
            // Who has swept it away meanwhile has taken the turn along.
            if turn.metadata().map_err(failed(what))?.nlink() > 0 {
                return Ok(Self(turn));
            }
        }
    }

    fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
    }

    fn path(folder: &Path) -> PathBuf {
        folder.with_extension("turn")
    }

    /// Keeps it from being swept away for a while.
    fn note_use(&self) {
        // It is swept away sooner.
        let _ = self.0.set_modified(SystemTime::now());
    }
}

/// Removes, from the folder of all that machines need, what can't be of use any more, or was not for long.
pub fn sweep(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder.join(FOLDER)).into_iter().flatten().filter_map(Result::ok);
    let turns = all.map(|entry| entry.path());
    let turns = turns.filter(|path| path.extension().is_some_and(|extension| extension == "turn"));
    turns.filter_map(|turn| sweep_one(&turn)).collect()
}

/// What was removed of the golden machine with this turn.
fn sweep_one(turn: &Path) -> Option<PathBuf> {
    let file = Turn::open(turn).ok()?;
    // Whoever uses it needs it.
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    let folder = turn.with_extension("");
    if is_of_use(&folder, &file.metadata().ok()?) {
        return None;
    }
    clear(&folder.with_extension("part")).and_then(|()| clear(&folder)).ok()?;
    fs::remove_file(turn).ok()?;
    Some(folder)
}

fn is_of_use(folder: &Path, turn: &Metadata) -> bool {
    let used = turn.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
    let about = read_about(folder).ok();
    let golden = about.as_ref().and_then(|about| Some((&about.plan, about.plan.golden.as_ref()?)));
    let name =
        golden.and_then(|(plan, golden)| likeness(plan, &golden.making, &golden.setting).ok());
    used < UNUSED && name.is_some_and(|name| folder.ends_with(name))
}

#[cfg(test)]
mod tests;
