//! Process 1 of a container that is not on its booter's kernel.
//!
//! It serves a stream, and if that one may be cut, [keeps](Keeper) it too, in turns of its own: nothing but
//! process 1 itself is out of reach of the signals of those who have its user.

use std::env;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use agentkernel_far::{LastWords, word};
use agentkernel_guest::{Agent, Beside, ReadyAgent, Rules};
use agentkernel_mux::Inner;
use agentkernel_sys::cgroup::{self, Found};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::{landlock, mount, socket};

use super::held::Keeper;
use super::{about, live, rules, settle_in, term};
use crate::greeting::{About, FarAbout, MountPoint, Setting};

/// How long the booter may take for a word, over whatever lies between.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long what is left to be said at the end may take.
const LAST: Duration = Duration::from_secs(10);

/// Serves the stream that standard input and output are, to the end of the place.
pub fn serve() -> io::Result<()> {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    let [input, output, errors] = [input.as_fd(), output.as_fd(), errors.as_fd()];
    serve_stream(
        input.try_clone_to_owned()?,
        output.try_clone_to_owned()?,
        errors.try_clone_to_owned()?,
        None,
    )
}

/// Serves a stream, whose [last words](LastWords) go to `errors`, to the end of the place. What is
/// written is in the directory `kept`, if that outlasts the place's kernel.
pub fn serve_stream(
    input: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
    kept: Option<OwnedFd>,
) -> io::Result<()> {
    serve_kept(input, output, errors, kept, None)
}

/// The same, of a stream whose other end has a keeper, who needs all that is open.
pub(super) fn serve_kept(
    input: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
    kept: Option<OwnedFd>,
    mut keeper: Option<&mut Keeper<'_>>,
) -> io::Result<()> {
    let kept = kept.as_ref().map(AsFd::as_fd);
    let found = Found::of(own_number()?)?;
    let said = far_about(&found)?;
    let mut wait = |interest: Interest<'_>, most| match &mut keeper {
        Some(keeper) => keeper.wait(interest, most),
        None => descriptor::poll(&mut [interest], most),
    };
    word::write_by(output.as_fd(), &said, &mut wait)?;
    let setting: Setting = word::read_by(input.as_fd(), PATIENCE, &mut wait)?;
    let [a, b, c] = [&input, &output, &errors].map(|fd| Some(fd.as_fd()));
    // Who keeps it needs all that is open.
    let needed = keeper.is_none().then_some([a, b, c, kept]);
    let ready = Ready::new(&setting, found, &said.about, needed, kept)?;
    ready.serve(&setting, [input, output, errors], kept, keeper)
}

/// A place that is set to be something, and has no stream yet.
struct Ready {
    found: Found,
    agent: ReadyAgent,
    rules: Rules,
    /// The other end of the agent's link.
    first: OwnedFd,
}

// Both are called twice, and a copy for each caller is what the small program has no room for.
impl Ready {
    /// Makes it that. Of all that is open only what is `needed` stays so, if that is told.
    #[inline(never)]
    fn new(
        setting: &Setting,
        found: Found,
        about: &About,
        needed: Option<[Option<BorrowedFd<'_>>; 4]>,
        kept: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        settle_in(setting, about)?;
        let (link, first) = socket::pair()?;
        let agent = Agent::new(link)?;
        if let Some([a, b, c, d]) = needed {
            agent.close_inherited(None, [Some(first.as_fd()), a, b, c, d], None)?;
        }
        let rules = rules(setting, kept)?;
        Ok(Self { found, agent: ReadyAgent::new(agent, &rules), rules, first })
    }

    /// Serves a stream to the end of the place.
    #[inline(never)]
    fn serve(
        self,
        setting: &Setting,
        [input, output, errors]: [OwnedFd; 3],
        kept: Option<BorrowedFd<'_>>,
        keeper: Option<&mut Keeper<'_>>,
    ) -> io::Result<()> {
        // The bridge knows what the last words mean.
        let fate = setting.fate.then(|| errors.try_clone()).transpose()?;
        let term = term(setting, None, fate);
        let inner = Inner::beside(input, output, self.first)?;
        let mut far = Far { inner, keeper, shared: setting.listener, kept, frozen: false };
        let served = live(self.agent, &self.rules, term, Some((&mut far, kept)));
        let kills = cgroup::oom_kills(self.found.directories);
        if kills > 0 {
            descriptor::write(errors.as_fd(), LastWords::oom_kills_line(kills).as_bytes())?;
        }
        served
    }
}

/// Who waits for a place to begin that is ready.
pub trait Ahead {
    /// What is to stay open for that.
    fn needed(&self) -> [Option<BorrowedFd<'_>>; 4];

    /// Waits, has said what is to be said of the place, and returns its input, output and last words.
    fn begin(self, said: FarAbout) -> io::Result<[OwnedFd; 3]>;
}

/// Serves the stream of a place whose `setting` is known, and of which nothing is kept, before it has one:
/// all is done ahead that can be, and then it begins when `ahead` says so.
pub fn serve_ahead(setting: &Setting, ahead: impl Ahead) -> io::Result<()> {
    let found = Found::of(own_number()?)?;
    let said = far_about(&found)?;
    let ready = Ready::new(setting, found, &said.about, Some(ahead.needed()), None)?;
    ready.serve(setting, ahead.begin(said)?, None, None)
}

fn far_about(found: &Found) -> io::Result<FarAbout> {
    let environment = env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
    Ok(FarAbout {
        about: about(),
        own_users: has_own_users()?,
        has_landlock: landlock::version().is_ok(),
        cpu: found.cpu,
        memory: found.memory,
        pids: found.pids,
        mounts: mounts()?,
        environment: environment.collect(),
        directory: env::current_dir().unwrap_or_default(),
    })
}

/// Clients from far away.
struct Far<'a, 'k> {
    inner: Inner,
    keeper: Option<&'a mut Keeper<'k>>,
    shared: bool,
    kept: Option<BorrowedFd<'a>>,
    frozen: bool,
}

impl Beside for Far<'_, '_> {
    fn poll(
        &mut self,
        interests: &mut [Interest<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        let inner = &mut self.inner;
        // A stream that talks nonsense has ended.
        let mut poll = |all: &mut [Interest<'_>], most| Ok(inner.poll(all, most).unwrap_or(false));
        match &mut self.keeper {
            // Where nobody can come any more there is no place.
            Some(keeper) => Ok(keeper.poll(interests, timeout, &mut poll).unwrap_or(false)),
            None => poll(interests, timeout),
        }
    }

    fn clients(&mut self) -> Vec<OwnedFd> {
        let mut clients = self.inner.clients();
        // Nobody but the first was to come.
        clients.truncate(if self.shared { clients.len() } else { 0 });
        clients
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn save(&mut self) {
        if let Some(kept) = self.kept {
            // What its device does not take is lost, and nobody could do anything about it.
            let _ = mount::save(kept);
        }
    }

    fn freeze(&mut self) -> io::Result<()> {
        if let Some(kept) = self.kept.filter(|_| !self.frozen) {
            mount::freeze(kept)?;
            self.frozen = true;
        }
        Ok(())
    }

    fn thaw(&mut self) {
        if let Some(kept) = self.kept.filter(|_| self.frozen) {
            // It is frozen, and this process may.
            let _ = mount::thaw(kept);
            self.frozen = false;
        }
    }

    fn finish(&mut self) {
        let until = Instant::now() + LAST;
        while !self.inner.is_finished() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.poll(&mut [], Some(left)).unwrap_or(false) {
                return;
            }
        }
    }
}

fn own_number() -> io::Result<i32> {
    i32::try_from(std::process::id()).map_err(io::Error::other)
}

fn mounts() -> io::Result<Vec<MountPoint>> {
    let all = fs::read("/proc/self/mountinfo")?;
    Ok(String::from_utf8_lossy(&all).lines().filter_map(mount_point).collect())
}

/// What a line of the kernel's tells, such as `36 35 0:9 / /the\040data ro,nodev - tmpfs tmpfs rw`.
fn mount_point(line: &str) -> Option<MountPoint> {
    let mut fields = line.split(' ').skip(4);
    let (path, options) = (fields.next()?, fields.next()?);
    Some(MountPoint { path: plain(path), read_only: options.split(',').any(|word| word == "ro") })
}

/// A path as it is: what would part the kernel's words stands there as three digits.
fn plain(path: &str) -> String {
    const PARTING: [(&str, &str); 4] =
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PARTING.iter().fold(path.to_owned(), |path, (told, meant)| path.replace(told, meant))
}

/// Whether the users of this place are not the machine's own, number by number.
fn has_own_users() -> io::Result<bool> {
    let map = fs::read_to_string("/proc/self/uid_map")?;
    let all: Vec<&str> = map.split_whitespace().collect();
    Ok(all != ["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_of_mounts_are_understood() {
        for (line, path, read_only) in [
            (r"36 35 0:9 / /the\040data ro,nodev - tmpfs tmpfs rw", "/the data", true),
            (
                r"37 35 0:9 /a /back\134slash rw,relatime shared:1 - virtiofs ro ro",
                r"/back\slash",
                false,
            ),
        ] {
            assert_eq!(mount_point(line), Some(MountPoint { path: path.into(), read_only }));
        }
        assert_eq!(mount_point("36 35"), None);
    }
}
