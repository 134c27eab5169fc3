//! Images that are built from a folder's Dockerfile, by the engine's own builder.
//!
//! It is the classic one, which every engine of the API has: all that it needs is in one request. The
//! steps run in the engine, with its default network, as `docker build` has them.

mod context;
mod ignore;

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentkernel_core::{BootError, News, Pull, tell};
use bollard::body_try_stream;
use bollard::models::BuildInfo;
use bollard::query_parameters::BuildImageOptionsBuilder;
use futures_util::stream;

use crate::client::Client;
use crate::credentials;
use crate::image::{Downloads, told};
use context::Context;
use ignore::Ignore;

/// The label of images that were built: the folder of each.
const LABEL: &str = "agentkernel.built-from";

/// How long an engine may take to receive a folder, before which it says nothing.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// How many of the last lines of a step are told if it fails, and how long a line may be.
const LAST: usize = 10;
const LONGEST: usize = 4096;

/// Neither file is longer, in bytes.
const MOST: u64 = 1 << 20;

impl Client {
    /// Builds the Dockerfile of `folder` under the name `reference`.
    pub fn build(&self, folder: &Path, reference: &str, pull: Pull) -> Result<(), BootError> {
        if pull == Pull::Never {
            return Err(BootError::Refused {
                why: "a build pulls what its Dockerfile begins with if that is not here".into(),
                fix: "leave out --pull never, or start the image that was built before by its name"
                    .into(),
            });
        }
        let refused = |why: String| BootError::Refused {
            why: format!("{} can't be built: {why}", folder.display()),
            fix: "correct that, and run it again".into(),
        };
        let unreadable = |error: io::Error| refused(error.to_string());
        let dockerfile = read(&folder.join("Dockerfile")).map_err(unreadable)?.unwrap_or_default();
        let ignored = read(&folder.join(".dockerignore")).map_err(unreadable)?.unwrap_or_default();
        let ignore = Ignore::parse(&ignored)
            .map_err(|why| refused(format!("its .dockerignore can't be read: {why}")))?;
        let context = Context::open(folder, ignore).map_err(unreadable)?;
        let fault = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&fault);
        let pieces = context.map(move |piece| {
            piece.map(Into::into).inspect_err(|error: &io::Error| {
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            })
        });
        let labels = HashMap::from([(LABEL, folder.to_string_lossy())]);
        let options = BuildImageOptionsBuilder::new().t(reference).labels(&labels).rm(true);
        let options = match pull {
            Pull::Always => options.pull("true"),
            Pull::Missing | Pull::Never => options,
        };
        let docker = self.docker.clone().with_timeout(PATIENCE);
        let docker = docker.with_request_modifier(credentials::in_their_alphabet);
        let text = String::from_utf8_lossy(&dockerfile);
        let credentials = credentials::of_images(self.product, begins_with(&text));
        let body = body_try_stream(stream::iter(pieces));
        let events = docker.build_image(
            options.forcerm(true).build(),
            (!credentials.is_empty()).then_some(credentials),
            Some(body),
        );
        let mut build = Build::default();
        let attended = self.attend(events, |event| match event {
            Ok(event) => {
                build.see(event);
                Ok(())
            }
            Err(error) => {
                let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(refused(fault.unwrap_or_else(|| build.failure(&told(&error)))))
            }
        });
        // Not every engine says it in so many words.
        let done = attended.and_then(|()| match build.done {
            true => Ok(()),
            false => Err(refused(build.failure("the engine does not say that it has succeeded"))),
        });
        tell(News::Built { image: reference, done: done.is_ok() });
        done
    }
}

/// A small file, if it is there.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Opening a pipe would wait for its writer.
    match fs::metadata(path) {
        Ok(data) if data.is_file() && data.len() <= MOST => {}
        Ok(_) => {
            let why = format!("{} is no file, or longer than 1 MiB", path.display());
            return Err(io::Error::other(why));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut text = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// The images that a Dockerfile names, as far as that can be told without carrying it out: those
/// for which credentials may be needed.
fn begins_with(dockerfile: &str) -> impl Iterator<Item = &str> {
    dockerfile.lines().flat_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        let from = first.eq_ignore_ascii_case("FROM");
        let copy = first.eq_ignore_ascii_case("COPY");
        let named = words.find_map(|word| match (from, word.strip_prefix("--from=")) {
            (true, _) if !word.starts_with("--") => Some(word),
            (false, Some(image)) if copy => Some(image),
            _ => None,
        });
        named.filter(|image| !image.contains('$'))
    })
}

/// How far a build has come.
#[derive(Debug, Default)]
struct Build {
    /// The step that goes on, as in `1/3: FROM debian`.
    step: Option<String>,
    /// What the step has said last.
    last: VecDeque<String>,
    /// A line that has not ended.
    open: String,
    downloads: Downloads,
    done: bool,
}

impl Build {
    fn see(&mut self, event: BuildInfo) {
        self.done |= event.aux.is_some_and(|aux| aux.id.is_some());
        if let Some(status) = &event.status {
            self.pull(event.id.as_deref(), status, event.progress_detail.as_ref());
        }
        self.open += &event.stream.unwrap_or_default();
        while let Some(end) = self.open.find('\n') {
            let rest = self.open.split_off(end + 1);
            let line = std::mem::replace(&mut self.open, rest);
            self.line(&line);
        }
        if self.open.len() > LONGEST {
            let line = std::mem::take(&mut self.open);
            self.line(&line);
        }
    }

    /// What a step begins with is being pulled.
    fn pull(
        &mut self,
        id: Option<&str>,
        status: &str,
        detail: Option<&bollard::models::ProgressDetail>,
    ) {
        let step = self.step.as_deref().unwrap_or_default();
        let image = begins_with(step.split_once(": ").map_or(step, |(_, rest)| rest)).next();
        let Some(image) = image else { return };
        self.downloads.see(id, Some(status), detail);
        tell(match status.strip_prefix("Status: ") {
            Some(what) => News::Pulled { image, newer: Some(what.starts_with("Downloaded")) },
            None => News::Pulling { image, progress: self.downloads.progress() },
        });
        if status.starts_with("Status: ") {
            self.downloads = Downloads::default();
        }
    }

    fn line(&mut self, line: &str) {
        let line = line.trim_end();
        // What draws a line again, in a terminal.
        let line = line.rsplit('\r').next().unwrap_or_default();
        if line.is_empty() {
            return;
        }
        let step = line.strip_prefix("Step ").or_else(|| line.strip_prefix("STEP "));
        if let Some(step) = step.filter(|step| step.starts_with(|c: char| c.is_ascii_digit())) {
            // As Podman has it.
            let step = step.replacen(" : ", ": ", 1);
            tell(News::Building { step: &step });
            self.step = Some(step);
            self.last.clear();
            return;
        }
        self.done |= line.starts_with("Successfully built ");
        tell(News::Output { line });
        // The engine's own words between the steps.
        const OWN: [&str; 3] = ["-->", "--->", "Removing intermediate container "];
        if !OWN.iter().any(|own| line.trim_start().starts_with(own)) {
            self.last.push_back(line.to_owned());
            if self.last.len() > LAST {
                self.last.pop_front();
            }
        }
    }

    /// Why it has failed, with the step's last lines.
    fn failure(&mut self, why: &str) -> String {
        let open = std::mem::take(&mut self.open);
        self.line(&open);
        let mut text = match &self.step {
            Some(step) => format!("step {} has failed: {}", plain(step), plain(why)),
            None => plain(why),
        };
        for line in &self.last {
            text += &format!("\n  {}", plain(line));
        }
        text
    }
}

/// Text of others as it may be shown on a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pieces: &[&str]) -> Build {
        let mut build = Build::default();
        for piece in pieces {
            build.see(BuildInfo { stream: Some((*piece).into()), ..BuildInfo::default() });
        }
        build
    }

    #[test]
    fn a_failure_names_its_step_and_shows_its_last_lines() {
        let mut build = seen(&[
            "Step 1/2 : FROM x\n",
            " ---> 0123\n",
            "Step 2/2 : RUN make\n",
            " ---> Running in 4567\n",
            "fir",
            "st\nbar 1%\rbar 100%\n\x1b[2J",
        ]);
        assert!(!build.done);
        let expected = "step 2/2: RUN make has failed: it ended with 2\n  first\n  bar 100%\n  \
                        \\u{1b}[2J";
        assert_eq!(build.failure("it ended with 2"), expected);
        assert_eq!(seen(&[]).failure("unknown\ninstruction"), "unknown\\ninstruction");
    }

    #[test]
    fn docker_and_podman_say_it_in_words_of_their_own() {
        let podman = seen(&["STEP 1/1: FROM x\n", "--> 01\n", "Successfully built 0123456789ab\n"]);
        assert_eq!((podman.step.as_deref(), podman.done), (Some("1/1: FROM x"), true));
        let aux = bollard::models::ImageId { id: Some("sha256:0".into()) };
        let mut docker = seen(&["Step 1/1 : FROM x\n"]);
        docker.see(BuildInfo { aux: Some(aux), ..BuildInfo::default() });
        assert!(docker.done);
    }

    #[test]
    fn the_images_that_a_dockerfile_begins_with_are_known() {
        let dockerfile = "# syntax=x\nARG V=1\nFROM --platform=linux/amd64 a.io/b:1 AS c\n\
                          from d\nFROM e:$V\nCOPY --chown=1 --from=f.io/g /h /i\nRUN from x\n";
        let found: Vec<&str> = begins_with(dockerfile).collect();
        assert_eq!(found, ["a.io/b:1", "d", "f.io/g"]);
    }

    #[test]
    fn output_without_lines_takes_no_more_room_than_a_line() {
        let long = "x".repeat(1000);
        let build = seen(&[long.as_str(); 100]);
        assert!(build.open.len() <= LONGEST && build.last.len() <= LAST);
    }
}
