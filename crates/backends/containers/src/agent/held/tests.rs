use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use agentkernel_far::session::Key;

use super::*;

const KEY: Key = Key { place: [1; 16], session: [2; 16] };
const PATIENCE: Duration = Duration::from_secs(9);

/// A keeper, and those around it.
struct Scene {
    /// Where those who bring a stream come to.
    folder: tempfile::TempDir,
    port: SocketAddr,
    inner: OwnedFd,
    errors: Option<OwnedFd>,
    session: Session,
    keeper: thread::JoinHandle<io::Result<()>>,
}

/// The other ends of what was brought.
struct Far {
    input: OwnedFd,
    output: OwnedFd,
    _link: Option<OwnedFd>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = socket::listen(&folder.path().join("relay")).unwrap();
        let open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        open.set_nonblocking(true).unwrap();
        let port = open.local_addr().unwrap();
        let (inner, theirs) = socket::pair().unwrap();
        let (words, errors) = descriptor::pipe().unwrap();
        let keeper = thread::spawn(move || {
            Keeper::new(&listener, Some(open), theirs, words, false).unwrap().finish()
        });
        let session = Session::with_key(KEY);
        Self { folder, port, inner, errors: Some(errors), session, keeper }
    }

    fn bring(&mut self) -> Far {
        let (input, theirs_out) = descriptor::pipe().unwrap();
        let (theirs_in, output) = descriptor::pipe().unwrap();
        let link = socket::connect(&self.folder.path().join("relay"), PATIENCE).unwrap();
        let streams = [theirs_in.as_fd(), theirs_out.as_fd(), theirs_out.as_fd()];
        socket::send(link.as_fd(), &[0], &streams).unwrap();
        self.session.begin();
        Far { input, output, _link: Some(link) }
    }

    fn bring_by_port(&mut self) -> Far {
        let mut connection = TcpStream::connect(self.port).unwrap();
        let mut welcome = [0];
        connection.read_exact(&mut welcome).unwrap();
        assert_eq!(welcome, [WELCOME]);
        self.session.begin();
        let output = connection.try_clone().unwrap().into();
        Far { input: connection.into(), output, _link: None }
    }

    fn tell(&mut self, far: &Far) {
        while !self.session.outgoing().is_empty() {
            let written = descriptor::write(far.output.as_fd(), self.session.outgoing());
            self.session.wrote(written.unwrap());
        }
    }

    /// Talks until something was said.
    fn hear(&mut self, far: &Far) -> Vec<Said> {
        loop {
            self.tell(far);
            let mut buffer = [0; 4096];
            let mut ready = [Interest::readable(far.input.as_fd())];
            assert!(descriptor::poll(&mut ready, Some(PATIENCE)).unwrap());
            let read = descriptor::read(far.input.as_fd(), &mut buffer).unwrap();
            assert!(read > 0);
            let said = self.session.hear(&buffer[..read]).unwrap();
            if !said.is_empty() {
                self.tell(far);
                return said;
            }
        }
    }

    fn inner_hears(&self) -> Vec<u8> {
        let mut buffer = [0; 4096];
        let mut ready = [Interest::readable(self.inner.as_fd())];
        assert!(descriptor::poll(&mut ready, Some(PATIENCE)).unwrap());
        let read = descriptor::read(self.inner.as_fd(), &mut buffer).unwrap();
        buffer[..read].to_vec()
    }

    fn inner_says(&self, bytes: &[u8]) {
        descriptor::write(self.inner.as_fd(), bytes).unwrap();
    }
}

#[test]
fn what_was_said_goes_on_with_the_next_stream() {
    let mut scene = Scene::new();
    let first = scene.bring();
    scene.inner_says(b"about");
    assert_eq!(scene.hear(&first), [Said::Data(b"about".into())]);
    scene.session.say(&Said::Data(b"setting".into()));
    scene.tell(&first);
    assert_eq!(scene.inner_hears(), b"setting");
    drop(first);
    scene.inner_says(b"meanwhile");
    scene.session.say(&Said::Data(b"and more".into()));
    let second = scene.bring();
    assert_eq!(scene.hear(&second), [Said::Data(b"meanwhile".into())]);
    assert_eq!(scene.inner_hears(), b"and more");
    descriptor::write(scene.errors.as_ref().unwrap().as_fd(), b"last").unwrap();
    assert_eq!(scene.hear(&second), [Said::Words(b"last".into())]);
    socket::close_for_all(scene.inner.as_fd()).unwrap();
    assert_eq!(scene.hear(&second), [Said::End]);
    scene.session.tell();
    scene.tell(&second);
    scene.keeper.join().unwrap().unwrap();
}

#[test]
fn only_the_first_stream_comes_by_the_port() {
    let mut scene = Scene::new();
    drop(scene.bring_by_port());
    let first = scene.bring_by_port();
    scene.tell(&first);
    scene.inner_says(b"about");
    assert_eq!(scene.hear(&first), [Said::Data(b"about".into())]);
    assert!(TcpStream::connect(scene.port).is_err(), "what runs inside would meet it");
    drop(first);
    scene.inner_says(b"meanwhile");
    let second = scene.bring();
    assert_eq!(scene.hear(&second), [Said::Data(b"meanwhile".into())]);
    socket::close_for_all(scene.inner.as_fd()).unwrap();
    assert_eq!(scene.hear(&second), [Said::End]);
    scene.session.tell();
    scene.tell(&second);
    scene.keeper.join().unwrap().unwrap();
}
