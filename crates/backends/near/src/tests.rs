use std::future::Future;
use std::io::Read;

use agentkernel_sys::descriptor;
use tokio::runtime::Builder;

use super::*;

/// A side, who is at it, and the other end of the session.
struct Scene {
    near: Near,
    session: Session,
    user: StdUnixStream,
    errors: File,
    other: Session,
}

impl Scene {
    fn new() -> Self {
        let (ours, user) = StdUnixStream::pair().unwrap();
        let (errors, errors_to) = descriptor::pipe().unwrap();
        let near = Near::new(ours, File::from(errors_to), 64).unwrap();
        let (mut session, mut other) = (Session::with_key(Default::default()), Session::new());
        session.begin();
        other.begin();
        let mut scene = Self { near, session, user, errors: File::from(errors), other };
        // They greet each other.
        scene.carry();
        scene.carry();
        assert!(scene.near.has_heard());
        scene
    }

    /// Carries all that each has to say, and returns what the other end was told.
    fn carry(&mut self) -> Vec<Said> {
        let mut told = Vec::new();
        loop {
            let out = self.session.outgoing().to_vec();
            self.session.wrote(out.len());
            told.extend(self.other.hear(&out).unwrap());
            let back = self.other.outgoing().to_vec();
            self.other.wrote(back.len());
            if !back.is_empty() {
                self.near.hear(&back, &mut self.session).unwrap();
            }
            if out.is_empty() && back.is_empty() {
                return told;
            }
        }
    }

    async fn turn(&mut self) -> bool {
        let ready = self.near.ready(self.session.has_room()).await;
        self.near.go_on(ready, &mut self.session)
    }

    async fn take(&mut self) {
        while !self.near.has_taken() {
            assert!(self.turn().await);
        }
    }
}

fn run(test: impl Future) {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(test);
}

#[test]
fn what_is_said_here_is_told_there_and_what_comes_is_taken() {
    run(async {
        let mut scene = Scene::new();
        scene.user.write_all(b"hello").unwrap();
        assert!(scene.turn().await);
        assert_eq!(scene.carry(), [Said::Data(b"hello".into())]);

        scene.other.say(&Said::Data(b"you".into()));
        scene.other.say(&Said::Words(b"oops".into()));
        scene.carry();
        assert!(scene.near.has_heard() && !scene.near.has_heard());
        assert!(!scene.near.has_taken());
        scene.take().await;
        let (mut taken, mut words) = ([0; 3], [0; 4]);
        scene.user.read_exact(&mut taken).unwrap();
        scene.errors.read_exact(&mut words).unwrap();
        assert_eq!((&taken, &words), (b"you", b"oops"));
    });
}

#[test]
fn an_end_of_either_side_is_an_end_once_all_was_taken() {
    run(async {
        let mut scene = Scene::new();
        scene.user.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(scene.turn().await);
        assert!(scene.near.has_ended() && !scene.near.is_over() && !scene.near.is_late());
        assert_eq!(scene.carry(), [Said::End]);
        scene.other.say(&Said::Data(b"last".into()));
        scene.other.say(&Said::End);
        scene.carry();
        assert!(!scene.near.is_over());
        scene.take().await;
        assert!(scene.near.is_over());
        // The other end knows that all was heard.
        assert!(scene.other.is_heard());
    });
}

#[test]
fn who_takes_nothing_any_more_ends_it() {
    run(async {
        let mut scene = Scene::new();
        drop(std::mem::replace(&mut scene.user, StdUnixStream::pair().unwrap().0));
        scene.other.say(&Said::Data(b"nobody".into()));
        let back = scene.other.outgoing().to_vec();
        scene.near.hear(&back, &mut scene.session).unwrap();
        scene.take().await;
        assert!(scene.near.has_ended());
    });
}

#[test]
fn an_absence_is_waited_for_longer_and_longer() {
    let mut absence = Absence::new(false);
    let first = absence.breath();
    assert_eq!(absence.breath(), first * 2);
    let longest = (0..10).map(|_| absence.breath()).max();
    assert_eq!(longest, Some(Absence::LONG_BREATH));
    absence.begin();
    assert_eq!(absence.breath(), first);
    assert!(!absence.is_over());
}
