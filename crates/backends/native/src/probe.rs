//! Whether sandboxes can be made here: found out by making one.

use std::collections::BTreeMap;
use std::io;

use agentkernel_core::{
    Asked, Backend, BootError, Bytes, Cpus, Image, Life, Limits, Module, Network, Origin, Place,
    Probe, Profile, RootAccess, Spec, User,
};
use agentkernel_protocol::{Decoder, FromAgent};
use agentkernel_sys::socket;

use crate::{Native, plan};

pub fn probe(native: &Native) -> Probe {
    match try_one(native) {
        Ok((place, notes)) => Probe::Ready {
            walls: place.walls().into(),
            limits: place.limits().into(),
            // The trial copies nothing, so that no directory of the host is in its way.
            notes: plan::note_on_copies().into_iter().chain(notes).collect(),
        },
        Err(BootError::Unavailable { why, fix } | BootError::Refused { why, fix }) => {
            Probe::Unavailable { why, fix }
        }
        Err(error @ BootError::Failed { .. }) => Probe::Unavailable {
            why: error.to_string(),
            fix: "please report this, with the kernel's version".into(),
        },
    }
}

fn try_one(native: &Native) -> Result<(Box<dyn Place>, Vec<String>), BootError> {
    let (image, notes) = match native.modules {
        Some(modules) => (Image::Module(Module::Any), modules.probe()?),
        None => (Image::Host, Vec::new()),
    };
    let place = native.boot_live(&Spec { image, ..trial() }, Life::default())?;
    match first_word(&*place) {
        Ok(FromAgent::Hello { .. }) => Ok((place, notes)),
        Ok(FromAgent::Unready { step, errno }) => {
            Err(place.explain(step, io::Error::from_raw_os_error(errno)))
        }
        Ok(other) => Err(failed(io::Error::other(format!("it said {other:?} first")))),
        Err(error) => Err(failed(error)),
    }
}

fn first_word(place: &dyn Place) -> io::Result<FromAgent> {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 256];
    loop {
        let (read, _) = socket::receive(place.link(), &mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = &buffer[..read];
        if let Some(word) = decoder.next(&mut rest, FromAgent::parse).map_err(io::Error::other)? {
            return Ok(word);
        }
    }
}

fn failed(source: io::Error) -> BootError {
    BootError::Failed { what: "the sandbox's agent did not answer".into(), source }
}

/// A sandbox that tries what every sandbox needs, and every limit.
fn trial() -> Spec {
    fn by_profile<T>(value: T) -> Option<Asked<T>> {
        Some(Asked { value, by: Origin::Profile })
    }
    Spec {
        profile: Profile::Moderate,
        image: Image::Host,
        network: Network::None,
        ports: Vec::new(),
        root: RootAccess::Writable,
        mounts: Vec::new(),
        directory: None,
        user: User::Unprivileged,
        environment: BTreeMap::new(),
        limits: Limits {
            cpus: by_profile(Cpus::whole(1)),
            memory: by_profile(Bytes::mib(256)),
            pids: by_profile(64),
            disk: by_profile(Bytes::mib(16)),
        },
        strict: false,
    }
}
