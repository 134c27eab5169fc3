//! A place, from a spec and a machine.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use agentkernel_containers::{
    Enforced, FarAbout, Setting, identity_of, pids_of_ours, refuse_missing,
};
use agentkernel_core::{
    Access, Asked, BootError, Bytes, Image, ImageFacts, Life, LimitInForce, LimitKind, Limited,
    Mount, Network, Place, RootAccess, Spec,
};
use agentkernel_far::{Bridge, FarError, FarPlace, Told, word};
use agentkernel_files::TransferError;
use agentkernel_firecracker::Origin;
use agentkernel_firecracker::words::{Making, Mounted, Order, Reply};
use agentkernel_images::open_for;
use agentkernel_sys::cgroup::Found;
use agentkernel_sys::{machine, process, signal};

use crate::bridge::own_part;
use crate::disks::Disks;
use crate::error::failed;
use crate::jail::Kind;
use crate::parts::{Parts, check_kvm};
use crate::plan::{Golden, Plan};
use crate::{bridge, initrd, probe};

/// How long a machine may take for a word once it has come up: an emulated one is slow.
const ANSWER: Duration = Duration::from_secs(60);

/// How long one may take to end.
const END: Duration = Duration::from_secs(10);

const MIB: u64 = 1 << 20;

/// What a machine has so that its commands may use this: its kernel takes a part of all of it, and some
/// for itself, more of that while it boots. What nobody uses costs the host nothing.
fn memory_with_kernel(limit: u64) -> u64 {
    const BOOT: u64 = 160 * MIB;
    (64 * MIB + limit / 32).saturating_add(limit).max(BOOT)
}

/// What commands may use that nobody has set a limit for.
const MEMORY: Bytes = Bytes::mib(2048);

/// More processors than Firecracker gives to a machine.
const MOST_PROCESSORS: u32 = 32;

/// Has a machine for `spec`, which comes from `origin`.
pub fn boot(spec: &Spec, life: Life, origin: Origin) -> Result<Box<dyn Place>, BootError> {
    check_kvm()?;
    let parts = Parts::find()?;
    let image = open_for(spec)?.ok_or_else(|| no_image(&spec.image))?;
    let processors = processors(spec)?;
    let memory = spec.limits.memory.map_or(MEMORY, |asked| asked.value);
    if life.layers.is_none() {
        check_scratch(spec, memory)?;
    }
    spec.mounts.iter().try_for_each(check_folder)?;
    let disks = Disks::of(&image, spec, life.layers.as_deref())?;
    let initrd = initrd::find(&parts.folder, &parts.agent, parts.modules.as_deref())
        .map_err(|source| failed("can't make the initial root of machines", source))?;
    let facts = image.record().facts();
    let making = making(spec, &disks, life.listener.is_some(), &facts)?;
    let setting = expected(spec, &making, &life, &facts)?;
    let mut plan = Plan {
        program: parts.program,
        kernel: parts.kernel,
        initrd,
        processors,
        memory: memory_with_kernel(memory.get()).div_ceil(MIB),
        disks: disks.all(),
        network: making.network,
        jail: Kind::possible(),
        golden: None,
    };
    let golden = Golden::from(origin, &plan, (&making, &setting), &parts.folder);
    plan.golden = golden.map_err(|source| failed("can't tell machines apart", source))?;
    // One that was saved has its root.
    let first = plan.golden.is_none().then_some(Order::Make(making));
    let bridge = Bridge::copy(bridge::serve).map_err(far)?;
    let greeted = greet(&bridge, &plan, first, &disks, spec, &life, facts);
    let (link, mut told) = match greeted {
        Ok(greeted) => greeted,
        Err(error) => return Err(dismiss(bridge, error)),
    };
    if origin == Origin::Saved && plan.golden.is_some() {
        told.notes
            .push("the machine did not boot: it is a copy of one that a pool has saved".into());
    }
    // The machine ends with the bridge, and that with this.
    let kill = Box::new(|| Ok(()));
    // The image is held for as long as whoever booted the place lives.
    Ok(Box::new(FarPlace::new(bridge, link, told, kill).holding(Box::new(image))))
}

fn no_image(image: &Image) -> BootError {
    let what = match image {
        Image::Rootfs(_) => "a folder",
        _ => "the host's own programs",
    };
    BootError::Refused {
        why: format!("a micro-VM can't have {what} as its root"),
        fix: "name an image with --image, such as debian:stable-slim; agentkernel image import \
              makes one of a folder"
            .into(),
    }
}

/// Refuses to keep more in memory than there is.
fn check_scratch(spec: &Spec, memory: Bytes) -> Result<(), BootError> {
    match spec.limits.disk {
        Some(Asked { value, .. }) if value > memory => Err(BootError::Refused {
            why: format!(
                "--disk {value} is more than the memory of {memory}, in which a micro-VM that is not \
                 kept has what is written"
            ),
            fix: "raise --memory, or lower --disk".into(),
        }),
        _ => Ok(()),
    }
}

/// As many as the limit takes to be used up.
fn processors(spec: &Spec) -> Result<u32, BootError> {
    let all = machine::processors().min(MOST_PROCESSORS);
    match spec.limits.cpus {
        None => Ok(all),
        Some(Asked { value, .. }) => match value.millis().div_ceil(1000) {
            wanted if wanted <= MOST_PROCESSORS => Ok(wanted.min(all).max(1)),
            wanted => Err(BootError::Refused {
                why: format!("a micro-VM has {MOST_PROCESSORS} processors at most, not {wanted}"),
                fix: "ask for fewer with --cpus".into(),
            }),
        },
    }
}

/// Ends a machine that has become no place, and says why it is none: one that has died may have left words.
/// Its bridge kills it and then awaits it, as nobody would whose bridge was killed.
fn dismiss(mut bridge: Bridge, error: BootError) -> BootError {
    // If it can't be told, it is killed after all.
    if let Ok(process) = process::open_pidfd(bridge.pid()) {
        let _ = process::signal_process(process.as_fd(), signal::SIGTERM);
    }
    match (error, bridge.end(END)) {
        (BootError::Failed { what, source }, Ok(words))
            if source.kind() == io::ErrorKind::UnexpectedEof && !words.text().is_empty() =>
        {
            let words = words.text().trim_start_matches("; ").to_owned();
            BootError::Failed { what, source: io::Error::other(words) }
        }
        (error, _) => error,
    }
}

/// Refuses what is no folder, of which no copy can be laid over anything.
fn check_folder(mount: &Mount) -> Result<(), BootError> {
    if mount.source.is_dir() {
        return Ok(());
    }
    Err(BootError::Refused {
        why: format!(
            "{} is no folder, and a micro-VM has copies of folders",
            mount.source.display()
        ),
        fix: "name the folder that it is in, or copy it with agentkernel cp".into(),
    })
}

/// Sends those of a spec's folders that a machine wants, and notes what of them can't be.
fn send_folders(
    spec: &Spec,
    folders: &[usize],
    to: BorrowedFd<'_>,
    notes: &mut Vec<String>,
) -> Result<(), BootError> {
    for number in folders {
        let mount = spec.mounts.get(*number);
        let nonsense = || failed("the machine speaks nonsense", io::ErrorKind::InvalidData.into());
        let source = &mount.ok_or_else(nonsense)?.source;
        match agentkernel_files::send_folder(source, word::Bytes(to)) {
            Ok(sent) if sent.refusals == 0 => {}
            Ok(sent) => notes.push(format!(
                "{} of the files in {} could not be copied, as those that are no files or that \
                 only others may read",
                sent.refusals,
                source.display()
            )),
            // The machine has let go of it, and says why.
            Err(TransferError::Output { .. }) => return Ok(()),
            Err(error) => {
                let what = format!("can't copy {} into the machine", source.display());
                return Err(failed(&what, io::Error::other(error.to_string())));
            }
        }
    }
    Ok(())
}

/// Has a machine, which is told this `first` unless it is a copy, and makes it the place that was asked for.
fn greet(
    bridge: &Bridge,
    plan: &Plan,
    first: Option<Order>,
    disks: &Disks,
    spec: &Spec,
    life: &Life,
    mut image: ImageFacts,
) -> Result<(OwnedFd, Told), BootError> {
    let text = serde_json::to_string(plan).map_err(io::Error::from);
    let text = text.map_err(|source| failed("can't say what the machine is made of", source))?;
    let (input, output) = bridge.open(&text).map_err(far)?;
    let (input, output) = (input.as_fd(), output.as_fd());
    let mut notes: Vec<String> = plan.jail.note().into_iter().collect();
    let said = match first {
        // Its bridge has had it begin.
        None => match word::read(input, ANSWER).map_err(unheard)? {
            Reply::Begun(said) => *said,
            _ => return Err(unheard(io::ErrorKind::InvalidData.into())),
        },
        Some(first) => {
            begin(first, spec, (input, output), &mut notes)?;
            word::read(input, ANSWER).map_err(unheard)?
        }
    };
    (image.passwd, image.group) = (said.about.passwd.clone(), said.about.group.clone());
    let user = identity_of(&spec.user, &image)?;
    let walls = probe::walls(&spec.network, said.has_landlock);
    refuse_missing(&walls, spec)?;
    let FarAbout { cpu, memory, pids, .. } = said;
    let found = Found { cpu, memory, pids, ..Found::default() };
    let Enforced { limits, nearest } = Enforced::check(spec, &found, false)?;
    let setting = Setting::new(&user, nearest, life);
    match &plan.golden {
        None => word::write(output, &setting).map_err(unheard)?,
        Some(golden) if golden.setting == setting => {}
        Some(_) => return Err(unlike()),
    }
    let [listener, fate] = [&life.listener, &life.fate].map(|fd| fd.as_ref().map(AsFd::as_fd));
    let link = bridge.serve(listener, fate).map_err(far)?;
    let limits = limits.into_iter().map(|limit| by_machine(limit, disks)).collect();
    Ok((link, Told { image, walls, limits, notes }))
}

/// Has a machine do this `first`, and then begin.
fn begin(
    first: Order,
    spec: &Spec,
    (input, output): (BorrowedFd<'_>, BorrowedFd<'_>),
    notes: &mut Vec<String>,
) -> Result<(), BootError> {
    let own = own_part().map_err(|source| failed("can't get random numbers", source))?;
    for order in [first, Order::Begin(own)] {
        word::write(output, &order).map_err(unheard)?;
        let mut reply = word::read(input, ANSWER).map_err(unheard)?;
        if let Reply::Wants { folders } = &reply {
            send_folders(spec, folders, output, notes)?;
            reply = word::read(input, ANSWER).map_err(unheard)?;
        }
        match reply {
            Reply::Done => {}
            Reply::Wants { .. } | Reply::Begun(_) => {
                return Err(unheard(io::ErrorKind::InvalidData.into()));
            }
            Reply::Failed { why } => {
                return Err(failed("the machine's root can't be made", io::Error::other(why)));
            }
        }
    }
    Ok(())
}

fn unheard(source: io::Error) -> BootError {
    failed("the machine does not answer", source)
}

/// Refuses a copy that is set to be another machine than is wanted.
fn unlike() -> BootError {
    let why = "its user or limits are not those that its image and root tell of; with \
               FIRECRACKER_SNAPSHOTS=none it boots";
    failed("the machine is not what was saved", io::Error::other(why))
}

/// What a machine with a root of `making` will be set to be, if it has what it is given.
fn expected(
    spec: &Spec,
    making: &Making,
    life: &Life,
    image: &ImageFacts,
) -> Result<Setting, BootError> {
    let Making { cpus: cpu, memory, pids, .. } = *making;
    let found = Found { cpu, memory, pids, ..Found::default() };
    let Enforced { nearest, .. } = Enforced::check(spec, &found, false)?;
    Ok(Setting::new(&identity_of(&spec.user, image)?, nearest, life))
}

/// What the machine's root is made of.
fn making(
    spec: &Spec,
    disks: &Disks,
    many_commands: bool,
    image: &ImageFacts,
) -> Result<Making, BootError> {
    const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    let user = identity_of(&spec.user, image)?;
    let (passwd, group) = user.lines_for(&image.passwd, &image.group);
    let lists = [("/etc/passwd", passwd, &image.passwd), ("/etc/group", group, &image.group)];
    let lists = lists
        .into_iter()
        .filter_map(|(path, line, own)| Some((path.to_owned(), format!("{own}{}", line?))));
    let network = spec.network != Network::None;
    // The host's name servers, where a machine with a network finds them.
    let resolvers = network.then(|| {
        let settings = fs::read_to_string(agentkernel_usernet::SETTINGS).unwrap_or_default();
        (agentkernel_usernet::SETTINGS.to_owned(), agentkernel_usernet::guest_settings(&settings))
    });
    let hosts = ("/etc/hosts".to_owned(), HOSTS.to_owned());
    let limits = &spec.limits;
    Ok(Making {
        kept: disks.keeps(),
        scratch: limits.disk.map(|asked| asked.value.get()),
        read_only: spec.root == RootAccess::ReadOnly,
        mounts: spec.mounts.iter().map(mounted).collect::<Result<_, _>>()?,
        owner: (user.uid, user.gid),
        files: [hosts].into_iter().chain(resolvers).chain(lists).collect(),
        network,
        home: user.home,
        cpus: limits.cpus.map(|asked| u64::from(asked.value.millis())),
        memory: limits.memory.map(|asked| asked.value.get()),
        // Some of them are the agent's.
        pids: limits.pids.map(|asked| u64::from(asked.value) + pids_of_ours(many_commands)),
    })
}

fn mounted(mount: &Mount) -> Result<Mounted, BootError> {
    let target = mount.target.to_str().ok_or_else(|| BootError::Refused {
        why: format!("a micro-VM can't have a folder at {:?}, which is no text", mount.target),
        fix: "mount it elsewhere, as with -v SRC:DST".into(),
    })?;
    Ok(Mounted { target: target.into(), writable: mount.access == Access::CopyOnWrite })
}

/// The limit with the means by which it holds.
fn by_machine(limit: LimitInForce, disks: &Disks) -> LimitInForce {
    let means = match limit.kind {
        LimitKind::Disk if disks.keeps() => "disk",
        LimitKind::Disk => "tmpfs",
        _ => "control group",
    };
    match limit.by {
        Limited::Exactly(_) => LimitInForce { by: Limited::Exactly(means.into()), ..limit },
        _ => limit,
    }
}

fn far(error: FarError) -> BootError {
    failed("can't boot the micro-VM", io::Error::other(error.to_string()))
}
