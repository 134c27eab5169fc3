//! A tool that does without agentkernel what is measured, ready to be run.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use agentkernel_core::{Yardstick, YardstickLife};

use crate::result::ToolFacts;
use crate::{Stopwatch, World};

/// A step of a sandbox's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create,
    Start,
    Exec,
    Stop,
    Remove,
}

impl Step {
    /// In their order.
    pub const ALL: [Self; 5] = [Self::Create, Self::Start, Self::Exec, Self::Stop, Self::Remove];

    /// The name of its series of samples.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Exec => "exec",
            Self::Stop => "stop",
            Self::Remove => "remove",
        }
    }
}

/// The bare process: the command as it is, on the host.
const PROCESS: Yardstick = Yardstick {
    name: "process",
    program: "",
    version: &[],
    prepare: |_, _| Ok(()),
    place: None,
    run: &["{command}"],
    life: None,
};

/// A tool with all that it needs, which goes with its world.
#[derive(Debug)]
pub struct Tool<'a> {
    world: &'a World,
    yardstick: &'a Yardstick,
    command: &'a [&'a str],
    /// Absolute; none of the bare process, which is nothing but the command.
    program: Option<PathBuf>,
    version: String,
    directory: PathBuf,
    /// How many runs there were, for their names.
    runs: AtomicU64,
    unusable: Option<String>,
}

impl<'a> Tool<'a> {
    /// Finds and prepares the tool, and has it run the command once, which must print `output`.
    /// Whatever is in the way of that is kept as [`unusable`](Self::unusable).
    pub fn new(
        world: &'a World,
        yardstick: &'a Yardstick,
        command: &'a [&'a str],
        output: &str,
    ) -> Self {
        let mut tool = Self {
            world,
            yardstick,
            command,
            program: None,
            version: String::new(),
            directory: PathBuf::new(),
            runs: AtomicU64::new(0),
            unusable: None,
        };
        tool.unusable = tool.make_ready(output).err();
        tool
    }

    /// The command as it is, on the host.
    pub fn process(world: &'a World, command: &'a [&'a str], output: &str) -> Self {
        Self::new(world, &PROCESS, command, output)
    }

    fn make_ready(&mut self, output: &str) -> Result<(), String> {
        let name = self.name();
        if name != PROCESS.name {
            let path = env::var_os("PATH").unwrap_or_default();
            let wanted = self.yardstick.program;
            let program =
                find(wanted, &path).ok_or_else(|| format!("{wanted} is not on the PATH"))?;
            self.version = first_line(self.world.tool(&program), self.yardstick.version);
            self.check_place(&program)?;
            self.program = Some(program);
        }
        let cannot = |error: io::Error| format!("{name} can't be prepared: {error}");
        self.directory = self.world.directory(&format!("tool-{name}")).map_err(cannot)?;
        (self.yardstick.prepare)(&self.directory, self.command).map_err(cannot)?;
        let mut stopwatch = Stopwatch::new().map_err(cannot)?;
        let tried = stopwatch.time(&mut self.run(), Some(output));
        tried.map(drop).map_err(|why| format!("{name} does not work here: {why}"))
    }

    fn check_place(&self, program: &Path) -> Result<(), String> {
        let Some(words) = self.yardstick.place else { return Ok(()) };
        let [own, the_backends] = words.map(|words| first_line(self.world.tool(program), words));
        if own.is_empty() || the_backends.is_empty() || own == the_backends {
            return Ok(());
        }
        Err(format!("{} works in {own}, and the backend in {the_backends}", self.name()))
    }

    pub fn name(&self) -> &'a str {
        self.yardstick.name
    }

    /// Whether it is the bare process.
    pub fn is_process(&self) -> bool {
        self.name() == PROCESS.name
    }

    /// Why it can't be measured, if it can't. Nothing else is to be asked of it then.
    pub fn unusable(&self) -> Option<&str> {
        self.unusable.as_deref()
    }

    /// Whether it has sandboxes that live.
    pub fn has_life(&self) -> bool {
        self.yardstick.life.is_some()
    }

    /// What is said of it in the results, beside this backend.
    pub fn facts(&self, backend: &str) -> ToolFacts {
        ToolFacts {
            name: self.name().to_owned(),
            backend: backend.to_owned(),
            version: self.version.clone(),
            unmeasured: self.unusable.clone(),
        }
    }

    /// Runs the command in a sandbox of its own. May be called by many threads at once.
    pub fn run(&self) -> Command {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        self.invoke(self.yardstick.run, &self.world.name(&format!("run-{number}")))
    }

    /// Takes a step in the life of the sandbox of this name; none where the tool has no such step.
    pub fn step(&self, step: Step, name: &str) -> Option<Command> {
        let YardstickLife { create, start, exec, stop, remove } = self.yardstick.life?;
        let words = match step {
            Step::Create => create,
            Step::Start => start,
            Step::Exec => exec,
            Step::Stop => stop,
            Step::Remove => remove,
        };
        (!words.is_empty()).then(|| self.invoke(words, name))
    }

    fn invoke(&self, words: &[&str], name: &str) -> Command {
        let directory = self.directory.to_string_lossy();
        let image = self.world.image().unwrap_or_default();
        let mut arguments = words.iter().flat_map(|&word| match word {
            "{command}" => self.command.iter().map(|&word| word.to_owned()).collect(),
            _ => vec![
                word.replace("{dir}", &directory).replace("{name}", name).replace("{image}", image),
            ],
        });
        let program = match &self.program {
            Some(program) => program.clone(),
            None => arguments.next().unwrap_or_default().into(),
        };
        let mut command = self.world.tool(&program);
        command.args(arguments);
        command
    }
}

/// The first file of this name on the PATH that somebody may execute.
fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The first line of what it prints; empty if it prints none.
fn first_line(mut command: Command, words: &[&str]) -> String {
    let printed = command.args(words).stdin(Stdio::null()).output();
    let printed = printed.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&printed).lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use agentkernel_core::{Yardstick, YardstickLife};

    use super::{Step, Tool};
    use crate::{Programs, World};

    const HELLO: &[&str] = &["/bin/echo", "hello"];

    /// A world without agentkernel, which the tools don't need.
    fn world() -> World {
        let nothing = std::path::PathBuf::from("/bin/true");
        World::new(&Programs { agentkernel: nothing.clone(), agentkerneld: nothing }).unwrap()
    }

    fn words(command: &Command) -> Vec<&str> {
        command.get_args().map(|word| word.to_str().unwrap()).collect()
    }

    const ENV: Yardstick = Yardstick {
        name: "env",
        program: "env",
        version: &["--version"],
        prepare: |directory, command| std::fs::write(directory.join("words"), command.join(" ")),
        place: None,
        run: &["NAME={name}", "DIR={dir}", "{command}"],
        life: Some(YardstickLife {
            create: &["{name}", "create"],
            start: &[],
            exec: &["{name}", "{command}"],
            stop: &[],
            remove: &["{name}", "remove"],
        }),
    };

    #[test]
    fn the_places_in_its_arguments_are_filled() {
        let world = world();
        let tool = Tool::new(&world, &ENV, HELLO, "hello\n");
        assert_eq!(tool.unusable(), None);
        let facts = tool.facts("native");
        assert!(facts.version.starts_with("env "), "{facts:?}");
        let run = tool.run();
        assert!(run.get_program().to_str().unwrap().ends_with("/env"));
        let directory = world.directory("tool-env").unwrap();
        assert_eq!(std::fs::read_to_string(directory.join("words")).unwrap(), "/bin/echo hello");
        let directory = format!("DIR={}", directory.display());
        assert_eq!(words(&run)[1..], [&directory, "/bin/echo", "hello"]);
        assert_ne!(words(&run)[0], words(&tool.run())[0]);
        let exec = tool.step(Step::Exec, "one").unwrap();
        assert_eq!(words(&exec), ["one", "/bin/echo", "hello"]);
        assert!(tool.step(Step::Start, "one").is_none());
    }

    #[test]
    fn the_bare_process_is_the_command() {
        let world = world();
        let tool = Tool::process(&world, HELLO, "hello\n");
        assert_eq!((tool.name(), tool.unusable()), ("process", None));
        assert_eq!(tool.run().get_program(), "/bin/echo");
        assert_eq!(words(&tool.run()), ["hello"]);
        assert!(!tool.has_life());
    }

    #[test]
    fn what_can_t_be_used_says_why() {
        let world = world();
        let missing = Yardstick { name: "nonesuch", program: "nonesuch", ..ENV };
        let tool = Tool::new(&world, &missing, HELLO, "hello\n");
        assert_eq!(tool.unusable(), Some("nonesuch is not on the PATH"));
        let tool = Tool::new(&world, &ENV, HELLO, "good bye\n");
        let why = "env does not work here: its output was \"hello\\n\"";
        assert_eq!(tool.unusable(), Some(why));
    }

    #[test]
    fn a_tool_that_works_elsewhere_is_no_measure() {
        let world = world();
        let at = |place| Yardstick { place: Some(place), ..ENV };
        let same = at([&["echo", "here"], &["echo", "here"]]);
        assert_eq!(Tool::new(&world, &same, HELLO, "hello\n").unusable(), None);
        let unknown = at([&["echo", "here"], &["false"]]);
        assert_eq!(Tool::new(&world, &unknown, HELLO, "hello\n").unusable(), None);
        let other = at([&["echo", "here"], &["echo", "there"]]);
        let tool = Tool::new(&world, &other, HELLO, "hello\n");
        assert_eq!(tool.unusable(), Some("env works in here, and the backend in there"));
    }
}
