//! A moment of fuzzing with every test run: the bodies of the fuzz targets over random and mutated
//! inputs. The seed is printed; `FUZZ_SEED` repeats it.
#![cfg(test)]

use std::ffi::CString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentkernel_core::{Access, Attachment, Process};
use agentkernel_protocol::{
    Carry, Ending, FromAgent, RecordHeader, RecordKind, Role, Stage, Start, Status, ToAgent,
    VERSION, Way,
};

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

/// How many inputs each body gets.
const INPUTS: u32 = 100_000;

/// Random numbers from a seed.
struct Random(u64);

impl Random {
    fn new(what: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let given = std::env::var("FUZZ_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or(now.as_nanos() as u64);
        println!("{what}: FUZZ_SEED={seed}");
        // A generator of this kind stays at zero.
        Self(seed.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, or 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        // Kinds, lengths and counts are small.
        match self.below(3) {
            0 => self.next() as u8,
            1 => self.below(4) as u8,
            _ => self.below(80) as u8,
        }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.byte()).collect()
    }

    fn pick<'a>(&mut self, seeds: &'a [Vec<u8>]) -> &'a [u8] {
        &seeds[self.below(seeds.len())]
    }

    /// An input: noise, a frame of noise, or some of the seeds with mistakes in them.
    fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = vec![self.byte()];
        match self.below(8) {
            0 => input.extend(self.bytes(64)),
            1 => {
                let body = self.bytes(64);
                input.extend((body.len() as u32 + 1).to_le_bytes());
                input.push(self.byte());
                input.extend(body);
            }
            _ => {
                for _ in 0..=self.below(4) {
                    input.extend(self.pick(seeds));
                }
            }
        }
        for _ in 0..self.below(4) {
            self.spoil(&mut input, seeds);
        }
        input
    }

    fn spoil(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len());
        match self.below(7) {
            0 => input.truncate(at),
            1 => input.insert(at, self.byte()),
            2 => input.extend(self.pick(seeds)),
            3 if !input.is_empty() => drop(input.remove(at)),
            4 if at + 4 <= input.len() => {
                let number = [0, 1, 255, 256, 65_536, 4 << 20, u32::MAX][self.below(7)];
                input[at..at + 4].copy_from_slice(&u32::to_le_bytes(number));
            }
            5 if !input.is_empty() => input[at] = self.byte(),
            6 if !input.is_empty() => input[at] ^= 1 << self.below(8),
            _ => {}
        }
    }
}

/// Gives `body` its inputs. Most of what the seeds say must have been understood, or it tried
/// nothing but the ways to refuse.
fn try_out(what: &str, seeds: &[Vec<u8>], body: fn(&[u8]) -> usize) {
    for seed in seeds {
        let input = [&[3], &seed[..]].concat();
        assert!(body(&input[usize::from(what == "log")..]) > 0, "a seed was refused: {seed:?}");
    }
    let mut random = Random::new(what);
    let understood: usize = (0..INPUTS)
        .map(|_| {
            let input = random.input(seeds);
            // A log has no byte in front that says how to cut it.
            body(if what == "log" { input.get(1..).unwrap_or_default() } else { &input })
        })
        .sum();
    assert!(understood > INPUTS as usize / 2, "only {understood} messages were understood");
}

#[test]
fn what_an_agent_says() {
    let seeds = [
        FromAgent::Hello { version: VERSION, at: Duration::from_micros(9) },
        FromAgent::Unready { step: 7, errno: 13 },
        FromAgent::Terminal { command: 3 },
        FromAgent::Started { command: u32::MAX, at: Duration::from_micros(u64::MAX) },
        FromAgent::NotStarted { command: 0, stage: Stage::Program, errno: 2 },
        FromAgent::Ended {
            command: 1,
            status: Status::Signaled(9),
            at: Duration::from_secs(1),
            user: Duration::ZERO,
            system: Duration::from_micros(1),
            max_resident: u64::MAX,
        },
        FromAgent::Done { command: 1 },
        FromAgent::Failed { command: 1, errno: -1 },
        FromAgent::Listed { command: 1, number: 2 },
    ];
    let seeds = seeds.map(|message| message.encode().as_bytes().to_vec());
    try_out("from_agent", &seeds, fuzz::from_agent);
}

fn strings(texts: &[&str]) -> Vec<CString> {
    texts.iter().map(|text| CString::new(*text).unwrap()).collect()
}

fn start(role: Role, terminal: Option<(u16, u16)>) -> ToAgent {
    let process = Process {
        is_module: false,
        programs: strings(&["/bin/sh"]),
        argv: strings(&["sh", "-c", ""]),
        environment: strings(&["A=b"]),
        directory: c"/".into(),
        uid: 1000,
        gid: u32::MAX,
        writable: strings(&["/tmp"]),
        no_setuid_files: terminal.is_some(),
    };
    ToAgent::Start { command: 7, start: Box::new(Start { process, terminal, role }) }
}

#[test]
fn what_an_agent_hears() {
    let time_limit = Some(Duration::from_micros(u64::MAX));
    let target = c"srv/x".into();
    let (access, directory, make_place) = (Access::CopyOnWrite, true, false);
    let mount = Attachment::Mount { target, access, directory, make_place };
    let (home, passwd, group) = (c"root".into(), c"root:x:0:0::/root:/bin/sh\n".into(), c"".into());
    let user = Attachment::User { uid: 0, gid: 7, home, passwd, group };
    let carry =
        Carry { way: Way::CopyOut, follow: true, uid: 0, gid: u32::MAX, path: c"/a".into() };
    let seeds = [
        ToAgent::Signal { command: 0, signal: 64 },
        ToAgent::Kill { command: u32::MAX },
        start(Role::Foreground, Some((24, 80))),
        start(Role::Only, None),
        start(Role::Background { number: 3, time_limit }, None),
        ToAgent::Background { command: 1, number: 2, signal: 1 },
        ToAgent::Release { command: 1 },
        ToAgent::List { command: 1 },
        ToAgent::All { command: 1, signal: 9 },
        ToAgent::Root { command: 1 },
        ToAgent::Pause { command: 1 },
        ToAgent::Unpause { command: 1 },
        ToAgent::Stop { command: 1, grace: Duration::from_secs(10) },
        ToAgent::Attach { command: 1, attachment: mount },
        ToAgent::UserNamespace { command: 1 },
        ToAgent::Attach { command: 1, attachment: user },
        ToAgent::Hold { command: 1 },
        ToAgent::Carry { command: 1, carry },
    ];
    let seeds = seeds.map(|message| message.encode().unwrap());
    try_out("to_agent", &seeds, fuzz::to_agent);
}

#[test]
fn what_is_in_a_log() {
    let record = |kind, text: &[u8]| {
        let header = RecordHeader { kind, length: text.len(), at: Duration::from_micros(u64::MAX) };
        [&header.encode(), text].concat()
    };
    let seeds = [
        record(RecordKind::Output, b"some output\n"),
        record(RecordKind::Errors, b""),
        record(RecordKind::Output, &[b'x'; 1000]),
        record(RecordKind::Ended, &Ending::TimedOut.encode()),
        record(RecordKind::Ended, &Ending::Died(Status::Signaled(64)).encode()),
        record(RecordKind::Ended, &Ending::Died(Status::Exited(255)).encode()),
    ];
    try_out("log", &seeds, fuzz::log);
}
