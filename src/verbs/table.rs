//! Every verb there is. The order is that of the help.

use super::{SHELLS, Takes, Verb, VerbInfo};

pub(crate) static VERBS: &[VerbInfo] = &[
    VerbInfo {
        verb: Verb::Run,
        name: "run",
        aliases: "",
        usage: "[FLAGS] [--] COMMAND [ARGUMENT...]",
        doc: "Run a command in a sandbox of its own",
        more: "\
Flags end at the command; what follows it is the command's own.

The exit status is the command's own, or 124 if it ran out of time, 125 if
agentkernel itself failed, 126 if the command is not executable, 127 if it is
not found, 128+N if signal N killed it, 137 if the sandbox ran out of memory.

A command that is the file of a WebAssembly module, such as app.wasm, is run by
a backend for modules. With a module as the image all words are its arguments.

What no flag says comes from AGENTKERNEL_* variables, then from the project's
agentkernel.toml, then from the user's agentkernel/config.toml.
",
        takes: Takes::Command,
    },
    VerbInfo {
        verb: Verb::Create,
        name: "create",
        aliases: "",
        usage: "[FLAGS] [NAME]",
        doc: "Make a sandbox that lives, and print its name",
        more: "\
A name is 1 to 64 letters, digits, '_', '.' and '-', the first a letter or a
digit. Where a sandbox is named, the first 4 characters of its id will do, too.

It keeps what its commands write until it is removed. A time to live begins at
the creation, an idle time at the end of the last command.
",
        takes: Takes::Nothing,
    },
    VerbInfo {
        verb: Verb::Start,
        name: "start",
        aliases: "",
        usage: "NAME...",
        doc: "Start sandboxes on the files that they have",
        more: "",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Stop,
        name: "stop",
        aliases: "",
        usage: "[-t TIME] NAME...",
        doc: "End all that runs in sandboxes, and keep their files",
        more: "\
Everything inside is sent TERM, and KILL after the time. start goes on with the
files, except for those in /run and /dev/shm.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Rm,
        name: "rm",
        aliases: "remove",
        usage: "[-f] NAME...",
        doc: "Remove sandboxes with their files",
        more: "",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Pause,
        name: "pause",
        aliases: "",
        usage: "NAME...",
        doc: "Halt all that runs in sandboxes",
        more: "",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Unpause,
        name: "unpause",
        aliases: "",
        usage: "NAME...",
        doc: "Let it go on",
        more: "",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Rename,
        name: "rename",
        aliases: "",
        usage: "NAME NEW-NAME",
        doc: "Give a sandbox another name",
        more: "",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Wait,
        name: "wait",
        aliases: "",
        usage: "NAME...",
        doc: "Wait until sandboxes have stopped",
        more: "",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Exec,
        name: "exec",
        aliases: "",
        usage: "[FLAGS] NAME [--] COMMAND [ARGUMENT...]",
        doc: "Run a command in a sandbox that runs",
        more: "\
Flags end at the name; what follows the command is the command's own. The exit
status is as that of run. Settings files are not read: the sandbox has its own.
If its image is a module, that is the command, and all words are its arguments.

With -d it goes on in the background: ps NAME lists it, logs and attach show its
output, kill ends it. Its output is kept, the latest 4 MiB at least.
",
        takes: Takes::SandboxCommand,
    },
    VerbInfo {
        verb: Verb::Ps,
        name: "ps",
        aliases: "list ls",
        usage: "[FLAGS] [NAME]",
        doc: "List sandboxes, or the background commands of one",
        more: "",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Kill,
        name: "kill",
        aliases: "",
        usage: "[-s SIGNAL] NAME [NUMBER]",
        doc: "Send a signal to a background command, or to all",
        more: "\
Without a number everything in the sandbox gets it. It stays as it is, running.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Logs,
        name: "logs",
        aliases: "",
        usage: "[-f] NAME [NUMBER]",
        doc: "Show what a background command wrote",
        more: "\
Without a number it is the latest one. See also: ps NAME.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Attach,
        name: "attach",
        aliases: "",
        usage: "NAME [NUMBER]",
        doc: "Follow a background command to its end",
        more: "\
What it writes from now on is shown, and signals such as that of Ctrl-C are
passed on to it. The exit status is the command's own. Without a number it is
the latest one.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Port,
        name: "port",
        aliases: "",
        usage: "[--json] NAME [PORT[/tcp|/udp]]",
        doc: "Show the host's ports that lead into a sandbox",
        more: "\
Each line is a port in the sandbox and where the host has it. With a port only
the latter is shown. Without /udp that is a port of TCP.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Inspect,
        name: "inspect",
        aliases: "",
        usage: "NAME",
        doc: "Show all that is known of a sandbox, as JSON",
        more: "",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Events,
        name: "events",
        aliases: "",
        usage: "[FLAGS]",
        doc: "Tell what happens to sandboxes, from now on",
        more: "",
        takes: Takes::Nothing,
    },
    VerbInfo {
        verb: Verb::Audit,
        name: "audit",
        aliases: "",
        usage: "[FLAGS] | verify",
        doc: "Show what was done, by whom, and how it ended",
        more: "\
Each entry holds the hash of the one before it. audit verify checks all of them:
the exit status is 0 if nothing was changed, removed, added or reordered, and 1
if something was. Who notes the last hash elsewhere sees a cut-off end, too.
",
        takes: Takes::OneOf("verify"),
    },
    VerbInfo {
        verb: Verb::Prune,
        name: "prune",
        aliases: "",
        usage: "[-f]",
        doc: "Remove the sandboxes that are stopped",
        more: "\
It also removes those that were not started for a minute after they were made,
and files of sandboxes that are gone. It asks first, which needs a terminal.
",
        takes: Takes::Nothing,
    },
    VerbInfo {
        verb: Verb::Cp,
        name: "cp",
        aliases: "",
        usage: "[-L] NAME:PATH PATH|- or cp [-L] PATH|- NAME:PATH",
        doc: "Copy files into a sandbox or out of it",
        more: "\
A path in a sandbox is NAME:PATH, and starts at its root. A host's path with a
colon in it starts with ./ or /. With - a tar archive comes from standard input
or goes to standard output.

A directory becomes one in the target if that is there, and the target itself
if not; of DIR/. what is in it is copied. Modes, times and holes are kept. What
is copied in belongs to the sandbox's user. No link is followed out of the
sandbox. Devices, sockets and fifos are left out and named, and the exit status
is 1 then. A sandbox that does not run is booted for it.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Diff,
        name: "diff",
        aliases: "",
        usage: "[--patch | --json] NAME",
        doc: "Show what a sandbox has changed",
        more: "\
Each line is A, C or D for what was added, changed or deleted, and its path in
the sandbox. A patch has what was changed in text files, and can be applied by
git apply or patch -p1 in the directory that it names.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Apply,
        name: "apply",
        aliases: "",
        usage: "[--force] NAME [PATH...]",
        doc: "Carry a sandbox's changes of the project to the host",
        more: "\
It takes all that was changed in the project and other cow mounts, or what is
at or below the paths, which are the sandbox's or relative to where it starts.
What the host has changed since is refused unless --force; links that lead out
of the project, devices, sockets and fifos always. The exit status is 1 then.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Export,
        name: "export",
        aliases: "",
        usage: "[-o FILE] NAME",
        doc: "Pack what a sandbox has changed as an image's layer",
        more: "\
It is an uncompressed tar archive as the layers of OCI images are: what was
deleted is a file whose name begins with .wh.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Snapshot,
        name: "snapshot",
        aliases: "",
        usage: "create NAME [SNAPSHOT] | ls | rm SNAPSHOT...",
        doc: "Keep what a sandbox has written under a name",
        more: "\
create --from makes sandboxes that begin with it. The sandbox stands still for
as long as it takes. What lies under it, such as the project, is not in it.
",
        takes: Takes::OneOf("create ls rm"),
    },
    VerbInfo {
        verb: Verb::Fork,
        name: "fork",
        aliases: "",
        usage: "[-n COUNT] [--name PREFIX] NAME",
        doc: "Make sandboxes that go on from another's files",
        more: "\
Their names are PREFIX-1, PREFIX-2 and so on, and are printed. They run if the
other one does, but no command goes along. All of them are made, or none.
",
        takes: Takes::Sandboxes,
    },
    VerbInfo {
        verb: Verb::Adopt,
        name: "adopt",
        aliases: "",
        usage: "-B BACKEND [NAME...]",
        doc: "Take over sandboxes that were made elsewhere",
        more: "\
Without a name it shows which there are, and who has them: those that live in a
cluster (-B kubernetes) are found from wherever that is reached. One that is
adopted goes on here with its files, what runs in it ends, and who had it has it
no more.
",
        takes: Takes::Nothing,
    },
    VerbInfo {
        verb: Verb::Image,
        name: "image",
        aliases: "images",
        usage: "pull|import|build|ls|inspect|tag|rm|prune ...",
        doc: "Fetch, list and remove images for native sandboxes",
        more: "\
  pull NAME...            Fetch from the registry that a name leads to
  import SOURCE [NAME]    Take oci:DIR[:NAME], rootfs:DIR, an archive of docker
                          save or docker export, or - for standard input
  build DIR NAME          Have Docker or Podman build a Dockerfile's folder
  ls                      List all that are here
  inspect IMAGE...        Print all that is known of them, as JSON
  tag IMAGE NAME          Give one another name
  rm IMAGE...             Take names away, and images with their last one
  prune                   Remove images without a name, and with -a all that no
                          sandbox, snapshot or pool is made of

An IMAGE is a name or the start of a digest. Docker and Podman keep images of
their own.
",
        takes: Takes::OneOf("pull import build ls inspect tag rm prune"),
    },
    VerbInfo {
        verb: Verb::Setup,
        name: "setup",
        aliases: "",
        usage: "firecracker [--kernel PATH] [--force] [--json]",
        doc: "Put a kernel for micro-VMs where it belongs",
        more: "\
It takes what micro-VMs need of a kernel that is installed here, or of a Debian
package of one that apt has fetched; nothing is fetched. What is there already
is kept unless --force. A PATH is a vmlinux, a vmlinuz, a Debian package, or a
folder such as /lib/modules/VERSION.

The exit status is 0 if micro-VMs have all that they need, and 1 if not.
",
        takes: Takes::OneOf("firecracker"),
    },
    VerbInfo {
        verb: Verb::Doctor,
        name: "doctor",
        aliases: "",
        usage: "[--json]",
        doc: "Say which backends work here and what they enforce",
        more: "The exit status is 0 if at least one backend is ready, and 1 if none is.\n",
        takes: Takes::Nothing,
    },
    VerbInfo {
        verb: Verb::Completions,
        name: "completions",
        aliases: "",
        usage: "bash|zsh|fish",
        doc: "Print a script that completes words in a shell",
        more: "\
The script belongs into
  bash  ~/.local/share/bash-completion/completions/agentkernel
  zsh   _agentkernel in a directory of $fpath
  fish  ~/.config/fish/completions/agentkernel.fish
",
        takes: Takes::OneOf(SHELLS),
    },
    VerbInfo {
        verb: Verb::Help,
        name: "help",
        aliases: "",
        usage: "[VERB]",
        doc: "Show all verbs, or one of them with its flags",
        more: "",
        takes: Takes::Verb,
    },
    VerbInfo {
        verb: Verb::Pool,
        name: "pool",
        aliases: "",
        usage: "ls | set NAME SIZE [FLAGS] | rm NAME...",
        doc: "Have sandboxes held ready for runs of the same spec",
        more: "\
A pool is held by the daemon. A run takes a sandbox out of one whose spec is its
own; variables, directory, user, project and volumes may differ. Each sandbox is
used once. `set` makes a pool, or changes what it holds. With --shared it is the
cluster's, and serves all who use that (-B kubernetes).
",
        takes: Takes::OneOf("ls set rm"),
    },
    VerbInfo {
        verb: Verb::Daemon,
        name: "daemon",
        aliases: "",
        usage: "start [-b] | stop | status [--json] | logs",
        doc: "Start or stop the daemon, or ask how it is",
        more: "\
The daemon holds pools and keeps house. Sandboxes that live don't depend on it.
`start` stays in the foreground unless -b sends it to the background.
",
        takes: Takes::OneOf("start stop status logs"),
    },
    VerbInfo {
        verb: Verb::Bench,
        name: "bench",
        aliases: "",
        usage: "[BACKEND...] | compare BEFORE AFTER | report RESULT...",
        doc: "Measure backends, next to what else does the work",
        more: "\
It measures every backend that is ready, or those named, in turn with the bare
process and other tools, and keeps every sample in a file. Ctrl-C ends it early
and keeps what there is. --json prints the result instead.

`compare` sets two results side by side. `report` makes a page of results.
",
        takes: Takes::OneOf("compare report"),
    },
];
