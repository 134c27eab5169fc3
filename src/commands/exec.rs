//! `agentkernel exec [FLAGS] NAME [--] COMMAND [ARGUMENT...]`

use std::ffi::OsString;
use std::mem;

use agentkernel_core::{Backend, Command};
use agentkernel_engine::{Engine, Exec, Terminal};
use agentkernel_store::Name;
use agentkernel_wire as wire;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::verbs::Verb;
use crate::{output, settings};

use super::tell::Telling;
use super::{sandboxes, spec};

/// Runs a command in a sandbox that lives, and returns the exit status that stands for its ending.
pub(super) fn run(
    mut low: LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let (name, argv) = name_and_command(mem::take(&mut low.words))?;
    let command = command(&mut low, argv)?;
    let engine = Engine::new(backends);
    if low.detach {
        check_detached(&low)?;
        let number =
            sandboxes::open_for(&engine, &name)?.exec_background(name.as_str(), &command)?;
        output::line(&number.to_string())?;
        return Ok(0);
    }
    let telling = Telling::new(&mut low, &command, "that of the sandbox", None)?;
    let terminal = low.terminal.unwrap_or(Terminal::Auto);
    let exec = Exec { command, terminal, stdin: !low.no_stdin };
    let all = sandboxes::open_for_commands(&engine, &name);
    telling.tell(all.and_then(|all| Ok(all.exec(name.as_str(), exec)?)))
}

/// Parts the name from the command, between which may be a `--`.
fn name_and_command(words: Vec<OsString>) -> Result<(Name, Vec<OsString>), CommandError> {
    let mut words = words.into_iter().peekable();
    let name = words.next().ok_or_else(|| sandboxes::missing(Verb::Exec))?;
    words.next_if(|word| word == "--");
    Ok((sandboxes::name(&name)?, words.collect()))
}

fn command(low: &mut LowArgs, argv: Vec<OsString>) -> Result<Command, CommandError> {
    let mut flags = mem::take(&mut low.spec);
    settings::lay_over_env_files(&mut flags, &low.env_files)?;
    let environment = spec::given_variables(flags.env);
    let (directory, user) = (flags.directory, flags.user);
    let command = wire::command(argv, low.function.take(), flags.timeout)?;
    Ok(Command { environment, directory, user, ..command })
}

/// Refuses what a command in the background can't have.
fn check_detached(low: &LowArgs) -> Result<(), CommandError> {
    let flag = match low {
        LowArgs { terminal: Some(Terminal::Always), .. } => "--tty",
        LowArgs { report: Some(_), .. } => "--report",
        _ => return Ok(()),
    };
    Err(CommandError::new(
        format!("{flag} means nothing for a command in the background"),
        "leave it out, or --detach",
    ))
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    fn parts(words: &[&str]) -> Result<(String, Vec<OsString>), CommandError> {
        let (name, argv) = name_and_command(words.iter().map(OsString::from).collect())?;
        Ok((name.to_string(), argv))
    }

    #[test]
    fn a_command_begins_after_the_name_and_one_pair_of_dashes() {
        for words in [&["web", "ls", "-l", "--"][..], &["web", "--", "ls", "-l", "--"]] {
            let (name, argv) = parts(words).unwrap();
            assert_eq!(name, "web");
            assert_eq!(argv, ["ls", "-l", "--"]);
        }
        assert_eq!(parts(&["web", "--", "--"]).unwrap().1, ["--"]);
        assert!(parts(&["we/b", "ls"]).is_err());
        assert!(parts(&[]).is_err());
    }

    #[test]
    fn variables_without_a_value_are_the_callers_if_it_has_them() {
        let mut low = LowArgs::default();
        let env = [("A", Some("x")), ("PATH", None), ("AGENTKERNEL_TEST_NONE", None)];
        low.spec.env = env.map(|(name, value)| (name.into(), value.map(OsString::from))).into();
        let command = command(&mut low, vec!["true".into()]).unwrap();
        let names: Vec<_> = command.environment.keys().collect();
        assert_eq!(names, ["A", "PATH"]);
        assert_eq!(command.environment.get(&OsString::from("PATH")).cloned(), env::var_os("PATH"));
    }
}
