//! Images: looked up, and pulled.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::pin;

use agentkernel_containers::Product;
use agentkernel_core::{BootError, Image, ImageFacts, News, Progress, Provision, Pull, Spec, tell};
use agentkernel_sys::signal;
use bollard::errors::Error;
use bollard::models::{ImageInspect, ProgressDetail};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::{Stream, StreamExt};
use tokio::net::unix::pipe::Receiver;

use crate::client::{Client, failed, status, words};
use crate::credentials;

/// The name of a spec's image.
pub fn reference(spec: &Spec) -> Result<&str, BootError> {
    match &spec.image {
        Image::Reference(reference) => Ok(reference),
        Image::Host | Image::Rootfs(_) | Image::Module(_) => Err(BootError::Refused {
            why: "a container engine runs images by their names only".into(),
            fix: "name one with --image, such as debian:stable-slim".into(),
        }),
    }
}

/// Sees to it that a spec's image is there, as asked.
pub fn provide(
    product: &'static Product,
    spec: &Spec,
    provision: &Provision,
) -> Result<(), BootError> {
    let reference = reference(spec)?;
    let client = Client::connect(product)?;
    if let Some(folder) = &provision.build {
        return client.build(folder, reference, provision.pull);
    }
    match (provision.pull, client.inspect(reference)?) {
        (Pull::Missing | Pull::Never, Some(_)) => Ok(()),
        (Pull::Missing | Pull::Always, _) => client.pull(reference),
        (Pull::Never, None) => Err(BootError::Refused {
            why: format!("the image {reference} is not here, and is never to be pulled"),
            fix: format!(
                "pull it once with {} pull {reference}, or allow --pull missing",
                product.name
            ),
        }),
    }
}

impl Client {
    /// What an image says of commands, if the engine has it; its users are not known yet.
    pub fn image(&self, reference: &str) -> Result<Option<ImageFacts>, BootError> {
        let Some(found) = self.inspect(reference)? else { return Ok(None) };
        if found.architecture.as_deref() == Some("wasm") {
            return Err(BootError::Refused {
                why: format!(
                    "{reference} is a WebAssembly module, which the {} backend can't run",
                    self.product.name
                ),
                fix: "use -B wasm".into(),
            });
        }
        let config = found.config.unwrap_or_default();
        Ok(Some(ImageFacts {
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            environment: config.env.unwrap_or_default(),
            directory: config.working_dir.filter(|path| !path.is_empty()).map(Into::into),
            user: config.user.filter(|user| !user.is_empty()),
            ..ImageFacts::default()
        }))
    }

    fn inspect(&self, reference: &str) -> Result<Option<ImageInspect>, BootError> {
        match self.runtime.block_on(self.docker.inspect_image(reference)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(failed(format!("can't look up the image {reference}"), &error)),
        }
    }

    /// The number of an image: another one if anything in it is.
    fn id(&self, reference: &str) -> Result<Option<String>, BootError> {
        Ok(self.inspect(reference)?.and_then(|found| found.id))
    }

    /// Has the engine pull an image, whether it has one of that name or not, and tells how far it
    /// is. The caller's credentials go along.
    pub fn pull(&self, reference: &str) -> Result<(), BootError> {
        let before = self.id(reference)?;
        tell(News::Pulling { image: reference, progress: Progress::default() });
        let after = self.fetch(reference, before.is_some()).and_then(|()| self.id(reference));
        let newer = after.as_ref().ok().map(|after| *after != before);
        tell(News::Pulled { image: reference, newer });
        after.map(drop)
    }

    fn fetch(&self, reference: &str, is_here: bool) -> Result<(), BootError> {
        let options = CreateImageOptionsBuilder::new().from_image(reference).build();
        let credentials = credentials::of_image(self.product, reference);
        let docker = self.docker.clone().with_request_modifier(credentials::in_their_alphabet);
        let news = docker.create_image(Some(options), None, credentials);
        let mut downloads = Downloads::default();
        self.attend(news, |event| match event {
            Ok(event) => {
                let detail = event.progress_detail.as_ref();
                downloads.see(event.id.as_deref(), event.status.as_deref(), detail);
                tell(News::Pulling { image: reference, progress: downloads.progress() });
                Ok(())
            }
            Err(error) => Err(no_image(reference, is_here, &told(&error))),
        })
    }

    /// Has `see` look at all that an engine sends, to its end or to an error. Signals that would end
    /// a program do so here too, if they are held back.
    pub fn attend<T>(
        &self,
        events: impl Stream<Item = T>,
        mut see: impl FnMut(T) -> Result<(), BootError>,
    ) -> Result<(), BootError> {
        let mut events = pin!(events);
        self.runtime.block_on(async {
            let mut ended = pin!(ending());
            loop {
                tokio::select! {
                    biased;
                    ended = &mut ended => return Err(interrupted(ended)),
                    event = events.next() => match event {
                        Some(event) => see(event)?,
                        None => return Ok(()),
                    },
                }
            }
        })
    }
}

/// Returns when somebody wants an end.
async fn ending() -> io::Result<()> {
    // No pipe, but it is only waited for, and for no other descriptor is there a safe way to do that.
    Receiver::from_owned_fd_unchecked(signal::endings()?)?.readable().await
}

fn interrupted(ended: io::Result<()>) -> BootError {
    match ended {
        Ok(()) => BootError::Refused {
            why: "it was interrupted while the image was made ready".into(),
            fix: "try again: the engine keeps what it has so far".into(),
        },
        Err(source) => BootError::Failed { what: "can't receive signals".into(), source },
    }
}

fn no_image(reference: &str, is_here: bool, why: &str) -> BootError {
    let here = if is_here { "" } else { "is not here and " };
    // Neither engine knows the kinds of a module's parts, and Docker not its operating system.
    let fix = match [".wasm.", "operating system is not supported"].iter().any(|a| why.contains(a))
    {
        true => "if it is a WebAssembly module, use -B wasm",
        false => {
            "check the name, whether its registry can be reached, and whether you have to log in"
        }
    };
    BootError::Refused {
        why: format!("the image {reference} {here}can't be pulled: {why}"),
        fix: fix.into(),
    }
}

/// What an error says that came in the middle of an answer, or before one.
pub fn told(error: &Error) -> String {
    match error {
        Error::DockerStreamError { error } => error.trim().to_owned(),
        error => words(error),
    }
}

/// The layers of an image that is being pulled, as an engine tells of them.
#[derive(Debug, Default)]
pub struct Downloads {
    /// Of each layer, how many bytes are there, of how many.
    layers: BTreeMap<String, (u64, u64)>,
    done: BTreeSet<String>,
}

impl Downloads {
    /// Takes one event in: which layer it is about, what becomes of it, and how far that is.
    pub fn see(&mut self, id: Option<&str>, status: Option<&str>, detail: Option<&ProgressDetail>) {
        let (Some(id), Some(status)) = (id, status) else { return };
        let is_new = matches!(status, "Pulling fs layer" | "Waiting" | "Already exists");
        // What else has an id is the image itself.
        if !is_new && !self.layers.contains_key(id) && status != "Downloading" {
            return;
        }
        let (current, total) = self.layers.entry(id.to_owned()).or_default();
        let number = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        match status {
            "Downloading" => {
                *current = detail.and_then(|detail| number(detail.current)).unwrap_or(*current);
                *total = detail.and_then(|detail| number(detail.total)).unwrap_or(*total);
            }
            // Podman says no more, and Docker unpacks.
            "Already exists" | "Download complete" | "Pull complete" => {
                *current = *total;
                self.done.insert(id.to_owned());
            }
            _ => {}
        }
    }

    pub fn progress(&self) -> Progress {
        Progress {
            layers: self.layers.len(),
            layers_done: self.done.len(),
            bytes: self.layers.values().map(|(_, total)| total).sum(),
            bytes_done: self.layers.values().map(|(current, total)| current.min(total)).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_as_the_engine_tells_of_them() {
        let mut downloads = Downloads::default();
        let half = ProgressDetail { current: Some(50), total: Some(100) };
        for (id, status, detail) in [
            (Some("1"), "Pulling from library/x", None),
            (Some("a"), "Already exists", None),
            (Some("b"), "Pulling fs layer", None),
            (Some("c"), "Waiting", None),
            (Some("b"), "Downloading", Some(&half)),
            (None, "Digest: sha256:0", None),
        ] {
            downloads.see(id, Some(status), detail);
        }
        let expected = Progress { layers: 3, layers_done: 1, bytes: 100, bytes_done: 50 };
        assert_eq!(downloads.progress(), expected);
        downloads.see(Some("b"), Some("Download complete"), None);
        downloads.see(Some("b"), Some("Extracting"), Some(&half));
        let expected = Progress { layers_done: 2, bytes_done: 100, ..expected };
        assert_eq!(downloads.progress(), expected);
    }
}
