//! Images of registries, by their names.

use std::process::{Command, Stdio};

use agentkernel_core::Capability;

use super::OF_ITS_OWN;
use crate::{Behaviour, Captured, NotPassed, Route, Subject, Verdict, ensure, skip};

pub(super) const TABLE: &[Behaviour] = &[
    Behaviour::new(
        "image-by-tag",
        "an image of a registry is pulled by its tag, and standard error alone tells so",
        &[Capability::ImageReference],
        image_by_tag,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-by-digest",
        "an image of a registry is pulled by its digest, and by no other",
        &[Capability::ImageReference],
        image_by_digest,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-when-to-pull",
        "an image is pulled always, never or if it is missing, as asked",
        &[Capability::ImageReference],
        image_when_to_pull,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-pulled-for-a-life",
        "create and pool set make sure of the image as asked, before they make anything",
        &[Capability::ImageReference, Capability::Live],
        image_pulled_for_a_life,
    )
    .only(Route::Cold, OF_ITS_OWN),
    Behaviour::new(
        "image-absent",
        "an image that no registry has is an error that names it, and nothing runs",
        &[Capability::ImageReference],
        image_absent,
    ),
    Behaviour::new(
        "image-of-nonsense",
        "what is no image's name is refused before an engine is asked",
        &[Capability::ImageReference],
        image_of_nonsense,
    ),
    Behaviour::new(
        "image-without-a-shell",
        "in an image with nothing in it a command is not found, and leaves no sandbox",
        &[Capability::ImageReference],
        image_without_a_shell,
    ),
    Behaviour::new(
        "image-whose-command-is-unknown",
        "where nobody can look at an image, a run without words is refused before anything is made",
        &[Capability::ImageReference],
        image_whose_command_is_unknown,
    )
    .only(Route::Cold, OF_ITS_OWN),
];

/// The image `agentkernel-test` of the registry that `scripts/lanes/containers.sh` brings up.
fn of_the_registry() -> Result<String, NotPassed> {
    match std::env::var("TESTKIT_REGISTRY") {
        Ok(registry) => Ok(format!("{registry}/agentkernel-test")),
        Err(_) => Err(NotPassed::Skipped(
            "no registry is named by TESTKIT_REGISTRY, see scripts/lanes/containers.sh".into(),
        )),
    }
}

fn image_by_tag(subject: &Subject) -> Verdict {
    let image = format!("{}:1", of_the_registry()?);
    let got = subject.run(&["--pull", "always", "--image", &image], &["echo", "here"])?;
    got.exits(0)?.prints("here\n")?.mentions(&format!("agentkernel: pulling {image}\n"))?;
    let told = got.errors();
    let last = told.lines().last().unwrap_or_default();
    let ended = last.ends_with(" is up to date") || last.ends_with(" s");
    ensure!(ended && last.contains(&image), "no end of the pull is told: {got}");
    ensure!(!told.contains('\r') && !told.contains('\x1b'), "a file is drawn in: {got}");
    let flags = ["--pull", "always", "--json", "--image", &image];
    let got = subject.run(&flags, &["echo", "here"])?;
    let lines = got.exits(0)?.prints("here\n")?.errors();
    ensure!(lines.lines().count() == 1 && lines.starts_with('{'), "more than JSON is told: {got}");
    Ok(())
}

/// The digest of a tag, as the registry tells without TLS.
fn digest_of(image: &str) -> Result<String, NotPassed> {
    let (registry, name) = image.split_once('/').unwrap_or_default();
    let mut curl = Command::new("curl");
    curl.args(["-sfI", "-H", "Accept: application/vnd.docker.distribution.manifest.v2+json"]);
    curl.args(["-H", "Accept: application/vnd.oci.image.manifest.v1+json"]);
    curl.arg(format!("http://{registry}/v2/{name}/manifests/1")).stdout(Stdio::piped());
    let got = Captured::of(curl).map_err(|_| NotPassed::Skipped("there is no curl".into()))?;
    let text = got.exits(0)?.text().to_ascii_lowercase();
    let line = text.lines().find_map(|line| line.strip_prefix("docker-content-digest:"));
    match line {
        Some(digest) => Ok(digest.trim().into()),
        None => Err(NotPassed::Failed(format!("the registry names no digest: {got}"))),
    }
}

fn image_by_digest(subject: &Subject) -> Verdict {
    let image = of_the_registry()?;
    let pinned = format!("{image}@{}", digest_of(&image)?);
    let flags = ["--pull", "always", "--image", &pinned];
    subject.run(&flags, &["echo", "here"])?.exits(0)?.prints("here\n")?;
    let other = format!("{image}@sha256:{}", "0".repeat(64));
    let got = subject.run(&["--image", &other], &["echo", "here"])?;
    got.exits(125)?.prints("")?.mentions(&other)?;
    Ok(())
}

fn image_when_to_pull(subject: &Subject) -> Verdict {
    let image = format!("{}:1", of_the_registry()?);
    // What is kept in the caller's own folders is there for the next run.
    let scratch = subject.scratch()?;
    let run = |pull: &str, image: &str| {
        let flags = ["--pull", pull, "--image", image];
        Captured::of(subject.run_command(&scratch, &flags, &["echo", "here"]))
    };
    run("always", &image)?.exits(0)?;
    for pull in ["missing", "never"] {
        run(pull, &image)?.exits(0)?.prints("here\n")?.complains("")?;
    }
    let absent = format!("{}:absent", of_the_registry()?);
    let got = run("never", &absent)?;
    got.exits(125)?
        .prints("")?
        .mentions("is not here")?
        .mentions(&absent)?
        .mentions("hint: pull")?;
    ensure!(!got.errors().contains("pulling"), "it was pulled all the same: {got}");
    run("always", &absent)?.exits(125)?.prints("")?.mentions(&absent)?;
    run("sometimes", &image)?.exits(125)?.prints("")?.mentions("always")?;
    Ok(())
}

fn image_pulled_for_a_life(subject: &Subject) -> Verdict {
    let image = of_the_registry()?;
    let scratch = subject.scratch()?;
    let agentkernel = |words: &[&str]| {
        let mut command = subject.agentkernel(&scratch);
        command.args(words);
        Captured::of(command)
    };
    let backend = subject.backend.as_str();
    let (there, absent) = (format!("{image}:1"), format!("{image}:absent"));
    for verb in [&["create", "NAME"][..], &["pool", "set", "NAME", "0"]] {
        for pull in ["always", "never"] {
            let flags = ["-B", backend, "--pull", pull, "--image", &absent];
            let got = agentkernel(&[verb, &flags].concat())?;
            got.exits(125)?.prints("")?.mentions(&absent)?;
            let flags = ["-B", backend, "--pull", pull, "--image", &there];
            agentkernel(&[verb, &flags].concat())?.exits(0)?.prints("NAME\n")?;
            let undo =
                if verb[0] == "create" { &["rm", "NAME"][..] } else { &["pool", "rm", "NAME"] };
            agentkernel(undo)?.exits(0)?;
        }
    }
    Ok(())
}

fn image_absent(subject: &Subject) -> Verdict {
    // No registry listens there.
    let image = "localhost:1/agentkernel/absent:1";
    let got = subject.run(&["--image", image], &["echo", "here"])?;
    got.exits(125)?.prints("")?.mentions(image)?.mentions("hint: ")?;
    Ok(())
}

fn image_of_nonsense(subject: &Subject) -> Verdict {
    for image in ["", " ", "a b", "-x", "../x", "./x", "a:b:c", "A", "a@sha256:0", "https://a.io/x"]
    {
        let flag = format!("--image={image}");
        let got = subject.run(&[flag.as_str()], &["echo", "here"])?;
        got.exits(125)?.prints("")?.mentions("image")?;
    }
    Ok(())
}

fn image_without_a_shell(subject: &Subject) -> Verdict {
    let there = of_the_registry()?;
    let (pull, image) = match subject.has_engine() {
        true => ("never", "localhost/agentkernel-empty".to_owned()),
        false if std::env::var_os("TESTKIT_REGISTRY_LOG").is_none() => {
            skip!("the registry of that lane has no empty image, see scripts/lanes/registry.sh")
        }
        false => ("missing", format!("{}:1", there.replace("-test", "-empty"))),
    };
    let flags = ["--pull", pull, "--image", &image];
    for argv in [&["sh", "-c", "exit 3"][..], &["/bin/sh"], &["echo", "here"]] {
        subject.run(&flags, argv)?.exits(127)?.prints("")?.mentions(argv[0])?;
    }
    Ok(())
}

fn image_whose_command_is_unknown(subject: &Subject) -> Verdict {
    if !subject.is_clusters() {
        skip!("the images of its sandboxes can be looked at");
    }
    let scratch = subject.scratch()?;
    let mut command = subject.agentkernel(&scratch);
    command.arg("run");
    let got = Captured::of(command)?;
    got.exits(125)?.prints("")?.mentions("error: no command was given")?.mentions("nodes")?;
    Ok(())
}
