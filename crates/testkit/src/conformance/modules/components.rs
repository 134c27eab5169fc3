//! Components, which some backends for modules run too.

use agentkernel_core::Capability;

use super::invoke::mistaken;
use super::{Shelf, module};
use crate::conformance::bad_input::refused;
use crate::{Behaviour, NO_FLAGS, Subject, Verdict, skip};

const BOTH: &[Capability] = &[Capability::ImageModule, Capability::ImageComponent];

pub(super) const TABLE: &[Behaviour] = &[
    module("component-runs", "a component that is a command runs as a module does", runs)
        .needing(BOTH),
    module(
        "component-without-command",
        "a component that is no command is refused, as is a call of its functions",
        without_command,
    )
    .needing(BOTH),
    module(
        "component-unknown-imports",
        "a component that needs what nobody gives it is refused, with the name of that",
        unknown_imports,
    )
    .needing(BOTH),
    module(
        "component-in-place-of-a-module",
        "a component is refused, as what it is, where only modules can be run",
        in_a_modules_place,
    ),
];

fn runs(subject: &Subject) -> Verdict {
    let got = Shelf::new(subject)?.run(&NO_FLAGS, "component", &NO_FLAGS)?;
    got.exits(0)?.prints("hello from a component\n")?.complains("")?;
    Ok(())
}

fn without_command(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    refused(&shelf.run_content("startless.wat", "(component)", &[])?, &["run"])?;
    // Its functions take more than numbers.
    mistaken(&shelf.run(&["--invoke", "run"], "component", &NO_FLAGS)?, &["run"])
}

fn unknown_imports(subject: &Subject) -> Verdict {
    let shelf = Shelf::new(subject)?;
    let text = "(component (import \"company:missiles/launch\" (instance (export \"go\" (func)))))";
    refused(&shelf.run_content("needy.wat", text, &[])?, &["company:missiles/launch"])?;
    Ok(())
}

fn in_a_modules_place(subject: &Subject) -> Verdict {
    if subject.has(Capability::ImageComponent) {
        skip!("components run here");
    }
    refused(&Shelf::new(subject)?.run(&NO_FLAGS, "component", &NO_FLAGS)?, &["component"])?;
    Ok(())
}
