//! A real place, a stream into it, and clients.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agentkernel_core::{Backend, Command, ImageFacts, Life, Place, Process, Spec};
use agentkernel_mux::{Inner, MuxError, Outer, Rest};
use agentkernel_native::NATIVE;
use agentkernel_protocol::{CommandId, Decoder, FromAgent, Role, Start, Status, ToAgent, VERSION};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::socket;
use agentkernel_wire::{Caller, Machine, SpecRequest};

/// How long anything may take here.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A living place.
pub struct Home {
    place: Option<Box<dyn Place>>,
    folder: PathBuf,
    spec: Spec,
}

impl Home {
    /// Boots one, or says why that can't be done here. The process must have a single thread.
    pub fn new(name: &str) -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("mux-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let caller = Caller {
            variables: &[],
            machine: Machine { processors: None, memory: None },
            capabilities: NATIVE.capabilities(),
            program: None,
        };
        let spec = SpecRequest::default().resolve(&caller).unwrap().spec;
        let listener = Some(socket::listen(&folder.join("agent")).unwrap());
        let life = Life { listener, ..Life::default() };
        let mut home = Self { place: None, folder, spec };
        let place = NATIVE.boot_live(&home.spec, life).map_err(|error| error.to_string())?;
        let greeting = place.link().try_clone_to_owned().unwrap();
        home.place = Some(place);
        match Client::on(greeting).next() {
            Some((FromAgent::Hello { .. }, _)) => Ok(home),
            other => Err(format!("the place did not get ready: {other:?}")),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn agent(&self) -> PathBuf {
        self.path("agent")
    }

    /// Ends the place and all in it.
    pub fn end_place(&mut self) {
        self.place.take().unwrap().destroy().unwrap();
    }

    pub fn process(&self, argv: &[&str]) -> Process {
        let command = Command {
            argv: argv.iter().map(Into::into).collect(),
            environment: [("TERM".into(), "dumb".into())].into(),
            ..Command::default()
        };
        NATIVE.process(&self.spec, &command, &ImageFacts::default).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.place.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A stream into a place, and both who serve it.
pub struct Mux {
    outer: Option<JoinHandle<Rest>>,
    inner: Option<JoinHandle<Result<(), MuxError>>>,
    /// To cut it by.
    cut: Option<OwnedFd>,
    quit: Option<OwnedFd>,
}

impl Mux {
    pub fn new(home: &Home) -> Self {
        let (outside, inside) = socket::pair().unwrap();
        let cut = outside.try_clone().unwrap();
        let inner = Inner::new(inside.try_clone().unwrap(), inside, home.agent()).unwrap();
        let (quit_by, quit) = descriptor::pipe().unwrap();
        let listener = socket::listen(&home.path("outer")).unwrap();
        let outer = Outer::new(outside.try_clone().unwrap(), outside).unwrap();
        let outer = outer.listen(listener).quit_by(quit_by);
        Self {
            outer: Some(std::thread::spawn(|| outer.serve())),
            inner: Some(std::thread::spawn(|| inner.serve())),
            cut: Some(cut),
            quit: Some(quit),
        }
    }

    /// Cuts the stream, as the end of a connection does.
    pub fn cut(&self) {
        socket::close_for_all(self.cut.as_ref().unwrap().as_fd()).unwrap();
    }

    /// Waits until both have seen the end of the stream.
    pub fn ended(&mut self) -> Rest {
        (self.quit, self.cut) = (None, None);
        let rest = self.outer.take().unwrap().join().unwrap();
        self.inner.take().unwrap().join().unwrap().unwrap();
        rest
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        if self.outer.is_some() && !std::thread::panicking() {
            let rest = self.ended();
            assert!(rest.why.is_none(), "{:?}", rest.why);
            assert!(rest.is_empty(), "a client was left");
        }
    }
}

/// A client of an agent, or of what stands for it.
pub struct Client {
    pub link: OwnedFd,
    decoder: Decoder,
    heard: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

impl Client {
    pub fn on(link: OwnedFd) -> Self {
        Self { link, decoder: Decoder::default(), heard: Vec::new(), descriptor: None }
    }

    /// Connects and hears the hello.
    pub fn connect(path: &Path) -> Self {
        let mut client = Self::on(socket::connect(path, PATIENCE).unwrap());
        let hello = client.next();
        assert!(
            matches!(hello, Some((FromAgent::Hello { version: VERSION, .. }, None))),
            "{hello:?}"
        );
        client
    }

    /// The next word with its descriptor; none when the link has ended.
    pub fn next(&mut self) -> Option<(FromAgent, Option<OwnedFd>)> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut rest = &self.heard[..];
            let word = self.decoder.next(&mut rest, FromAgent::parse).unwrap();
            self.heard = rest.to_vec();
            if let Some(word) = word {
                return Some((word, self.descriptor.take()));
            }
            wait(self.link.as_fd(), until);
            let mut buffer = [0; 1024];
            match socket::receive(self.link.as_fd(), &mut buffer) {
                Ok((0, _)) => return None,
                Ok((read, [descriptor, ..])) => {
                    self.heard.extend_from_slice(&buffer[..read]);
                    self.descriptor = self.descriptor.take().or(descriptor);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn say(&self, order: &ToAgent, descriptors: &[BorrowedFd<'_>]) {
        socket::send(self.link.as_fd(), &order.encode().unwrap(), descriptors).unwrap();
    }

    pub fn start(
        &self,
        command: CommandId,
        process: Process,
        role: Role,
        terminal: Option<(u16, u16)>,
        streams: &[BorrowedFd<'_>],
    ) {
        let start = Box::new(Start { process, terminal, role });
        self.say(&ToAgent::Start { command, start }, streams);
    }

    pub fn is_started(&mut self, command: CommandId) {
        let word = self.next();
        assert!(
            matches!(word, Some((FromAgent::Started { command: one, .. }, _)) if one == command),
            "{word:?}"
        );
    }

    /// How the command ended.
    pub fn end_of(&mut self, command: CommandId) -> Status {
        match self.next() {
            Some((FromAgent::Ended { command: one, status, .. }, _)) if one == command => status,
            other => panic!("{other:?}"),
        }
    }

    /// That nothing more is said.
    pub fn is_let_go(&mut self) {
        let word = self.next();
        assert!(word.is_none(), "{word:?}");
    }
}

/// Waits until `fd` can be read.
pub fn wait(fd: BorrowedFd<'_>, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    let ready = descriptor::poll(&mut [Interest::readable(fd)], Some(left)).unwrap();
    assert!(ready, "nothing came in time");
}

/// Reads to the end.
pub fn read_all(fd: OwnedFd) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 64 * 1024]);
    let until = Instant::now() + PATIENCE;
    loop {
        wait(fd.as_fd(), until);
        match descriptor::read(fd.as_fd(), &mut buffer).unwrap() {
            0 => return all,
            read => all.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Reads what is there now.
pub fn read_now(fd: BorrowedFd<'_>) -> Vec<u8> {
    descriptor::set_nonblocking(fd).unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 64 * 1024]);
    while let Ok(read @ 1..) = descriptor::read(fd, &mut buffer) {
        all.extend_from_slice(&buffer[..read]);
    }
    all
}

/// A command under way, with pipes for its streams.
pub struct Run {
    pub client: Client,
    pub input: Option<OwnedFd>,
    pub output: OwnedFd,
    pub errors: OwnedFd,
}

impl Run {
    pub fn start(home: &Home, door: &str, argv: &[&str], role: Role) -> Self {
        let mut client = Client::connect(&home.path(door));
        let (input, to_input) = descriptor::pipe().unwrap();
        let (output, to_output) = descriptor::pipe().unwrap();
        let (errors, to_errors) = descriptor::pipe().unwrap();
        let streams = [input.as_fd(), to_output.as_fd(), to_errors.as_fd()];
        client.start(0, home.process(argv), role, None, &streams);
        client.is_started(0);
        Self { client, input: Some(to_input), output, errors }
    }

    pub fn foreground(home: &Home, argv: &[&str]) -> Self {
        Self::start(home, "outer", argv, Role::Foreground)
    }

    /// Ends its input and returns all that comes of it.
    pub fn finish(mut self) -> (Status, Vec<u8>, Vec<u8>) {
        self.input = None;
        let errors = self.errors;
        let errors = std::thread::spawn(move || read_all(errors));
        let output = read_all(self.output);
        let errors = errors.join().unwrap();
        (self.client.end_of(0), output, errors)
    }
}

/// Runs a command through the stream.
pub fn run(home: &Home, argv: &[&str]) -> (Status, String, String) {
    let (status, output, errors) = Run::foreground(home, argv).finish();
    (status, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

/// Runs a shell's script through the stream.
pub fn sh(home: &Home, script: &str) -> (Status, String, String) {
    run(home, &["sh", "-c", script])
}
