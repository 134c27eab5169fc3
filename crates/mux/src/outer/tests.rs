//! What an inner side that means no good can do to the outer one. The seed of what is tried at
//! random is printed; `FUZZ_SEED` repeats it.

use std::os::fd::BorrowedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use agentkernel_core::Process;
use agentkernel_protocol::{CommandId, FromAgent, Stage, Start, Status, ToAgent};
use agentkernel_sys::descriptor;

use super::*;
use crate::message::{
    AT_ONCE, Address, ChannelId, FRAMES, MAX_DATA, RESERVE, Streams, VERSION, WINDOW, WORDS,
};

/// An outer side whose turns a test takes, with clients that have started a command each.
struct Scene {
    outer: Outer,
    /// The stream's other end.
    inside: OwnedFd,
    clients: Vec<Client>,
}

struct Client {
    link: OwnedFd,
    outputs: [OwnedFd; 2],
    _input: OwnedFd,
}

fn start(command: CommandId, terminal: Option<(u16, u16)>) -> Vec<u8> {
    let process = Process {
        is_module: false,
        programs: vec![c"/bin/true".into()],
        argv: vec![c"true".into()],
        environment: Vec::new(),
        directory: c"/".into(),
        uid: 0,
        gid: 0,
        writable: Vec::new(),
        no_setuid_files: false,
    };
    let start = Start { process, terminal, role: agentkernel_protocol::Role::Foreground };
    ToAgent::Start { command, start: Box::new(start) }.encode().unwrap()
}

impl Scene {
    /// The channels of each client's command.
    const CHANNELS: [ChannelId; 3] = [1, 2, 3];

    fn new(clients: usize) -> Self {
        let (outside, inside) = socket::pair().unwrap();
        descriptor::set_nonblocking(inside.as_fd()).unwrap();
        let outer = Outer::new(outside.try_clone().unwrap(), outside).unwrap();
        let mut scene = Self { outer, inside, clients: Vec::new() };
        for _ in 0..clients {
            scene.add_client();
        }
        scene.say(&[Message::Hello { version: VERSION }]).unwrap();
        scene
    }

    fn add_client(&mut self) {
        let (ours, theirs) = socket::pair().unwrap();
        descriptor::set_nonblocking(ours.as_fd()).unwrap();
        self.outer.admit(theirs);
        let (input, to_input) = descriptor::pipe().unwrap();
        let (output, to_output) = descriptor::pipe().unwrap();
        let (errors, to_errors) = descriptor::pipe().unwrap();
        let streams = [input.as_fd(), to_output.as_fd(), to_errors.as_fd()];
        socket::send(ours.as_fd(), &start(0, None), &streams).unwrap();
        let outputs = [output, errors];
        outputs.iter().for_each(|fd| descriptor::set_nonblocking(fd.as_fd()).unwrap());
        self.clients.push(Client { link: ours, outputs, _input: to_input });
        self.settle().unwrap();
    }

    /// Takes turns until nothing happens any more.
    fn settle(&mut self) -> Result<(), MuxError> {
        for _ in 0..4 {
            self.outer.turn(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Says things from inside, and takes turns.
    fn say(&mut self, messages: &[Message<'_>]) -> Result<(), MuxError> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.put(&mut bytes));
        self.say_bytes(&bytes)
    }

    fn say_bytes(&mut self, bytes: &[u8]) -> Result<(), MuxError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match descriptor::write(self.inside.as_fd(), rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            self.settle()?;
        }
        Ok(())
    }

    /// Says one and the same again until it is refused, and returns how often it was not.
    fn say_without_end(&mut self, message: &Message<'_>, most: usize) -> usize {
        (0..most).take_while(|_| self.say(&[*message]).is_ok()).count()
    }
}

fn read(fd: BorrowedFd<'_>) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = descriptor::read(fd, &mut buffer) {
        all.extend_from_slice(&buffer[..read]);
    }
    all
}

fn ended(command: CommandId) -> Vec<u8> {
    let (at, user, system) = Default::default();
    let status = Status::Exited(0);
    let word = FromAgent::Ended { command, status, at, user, system, max_resident: 0 };
    word.encode().as_bytes().to_vec()
}

#[test]
fn data_comes_to_whom_it_names_and_to_nobody_else() {
    let mut scene = Scene::new(2);
    let data = |link, channel| Message::Data { at: Address { link, channel }, bytes: b"data" };
    // To a command's input, to those that are not there, and to links that are not.
    let nowhere = [data(0, 1), data(0, 4), data(0, u32::MAX), data(2, 2), data(u64::MAX, 2)];
    scene.say(&nowhere).unwrap();
    scene.say(&[data(1, 3)]).unwrap();
    let [first, second] = &scene.clients[..] else { panic!() };
    for fd in [&first.outputs[0], &first.outputs[1], &second.outputs[0]] {
        assert_eq!(read(fd.as_fd()), b"");
    }
    assert_eq!(read(second.outputs[1].as_fd()), b"data");
    for client in &scene.clients {
        assert_eq!(read(client.link.as_fd()), b"");
    }
}

#[test]
fn nobody_makes_it_hold_more_than_it_should() {
    let at = Address { link: 0, channel: 2 };
    let mut scene = Scene::new(1);
    let data = Message::Data { at, bytes: &[7; MAX_DATA] };
    let taken = scene.say_without_end(&data, 1000) * MAX_DATA;
    assert!(taken <= (WINDOW + RESERVE) as usize + MAX_DATA, "{taken}");
    assert!(scene.outer.held() <= taken);

    let mut scene = Scene::new(1);
    let frame = ended(0);
    // Each of them waits for what never comes.
    let word = Message::Word { link: 0, after: [(2, 1), (FRAMES, 0)], frame: &frame };
    let taken = scene.say_without_end(&word, 10_000) * frame.len();
    assert!(taken <= WORDS as usize, "{taken}");
    // Nor do words that are delivered, to a client that does not listen.
    let mut scene = Scene::new(1);
    let word = Message::Word { link: 0, after: AT_ONCE, frame: &frame };
    assert!(scene.say_without_end(&word, 100_000) < 100_000);

    // What is provoked is bounded, too, though nobody takes it.
    let mut scene = Scene::new(1);
    for _ in 0..1000 {
        scene.say(&[Message::Data { at, bytes: &[7; 4096] }]).unwrap();
        read(scene.clients[0].outputs[0].as_fd());
    }
}

#[test]
fn what_breaks_the_rules_ends_the_stream() {
    let at = Address { link: 0, channel: 2 };
    let input = Address { link: 0, channel: 1 };
    let frames = Address { link: 0, channel: FRAMES };
    let (frame, terminal) = (ended(0), FromAgent::Terminal { command: 0 }.encode());
    let word = |frame| Message::Word { link: 0, after: AT_ONCE, frame };
    let two = frame.repeat(2);
    let cases: Vec<Vec<Message<'_>>> = vec![
        vec![Message::Hello { version: VERSION }],
        vec![Message::Open { link: 9 }],
        vec![Message::Orders { link: 0, bytes: b"x" }],
        vec![Message::Streams { link: 0, command: 0, streams: Streams::Terminal(1) }],
        vec![Message::Size { at, rows: 1, columns: 1 }],
        vec![Message::Credit { at: input, bytes: 1 }],
        vec![Message::Credit { at: frames, bytes: u32::MAX }],
        vec![word(b"nonsense"), word(b"")],
        vec![word(&two)],
        vec![word(&frame[..frame.len() - 1])],
        vec![word(terminal.as_bytes())],
    ];
    for messages in cases {
        let mut scene = Scene::new(1);
        assert!(scene.say(&messages).is_err(), "{messages:?}");
    }
    // Data after the end, where there is a reader who has not taken all before it.
    let mut scene = Scene::new(1);
    scene.say(&[Message::Data { at, bytes: &[0; MAX_DATA] }; 2]).unwrap();
    assert!(scene.say(&[Message::End { at }, Message::Data { at, bytes: b"x" }]).is_err());
}

#[test]
fn what_is_said_to_a_client_that_has_just_gone_breaks_no_rule() {
    let mut scene = Scene::new(1);
    let client = scene.clients.pop().unwrap().link;
    socket::send(client.as_fd(), &start(1, Some((24, 80))), &[]).unwrap();
    scene.settle().unwrap();
    // So many orders that some are under way still when it goes.
    let order = ToAgent::Kill { command: 7 }.encode().unwrap().repeat(100_000);
    let (mut rest, mut full) = (&order[..], 0);
    while full < 20 {
        match socket::send_some(client.as_fd(), rest, &[]) {
            Ok(sent) => (rest, full) = (&rest[sent..], 0),
            Err(_) => full += 1,
        }
        scene.settle().unwrap();
    }
    assert!(!rest.is_empty(), "all was taken");
    drop(client);
    // The first finds out that it has gone.
    for word in [FromAgent::Done { command: 7 }, FromAgent::Terminal { command: 1 }] {
        let frame = word.encode();
        let word = Message::Word { link: 0, after: AT_ONCE, frame: frame.as_bytes() };
        scene.say(&[word]).unwrap();
    }
}

/// What has been said into the place since this was last asked: of links.
fn opened_and_closed(scene: &Scene) -> Vec<(bool, LinkId)> {
    let said = read(scene.inside.as_fd());
    let mut rest = &said[..];
    let mut links = Vec::new();
    while let Some(message) = Message::take(&mut rest).unwrap() {
        match message {
            Message::Open { link } => links.push((true, link)),
            Message::Close { link } => links.push((false, link)),
            _ => {}
        }
    }
    links
}

#[test]
fn whoever_comes_next_finds_a_hello_and_a_link_that_is_refused_is_not_opened_again() {
    let path = std::env::temp_dir().join(format!("outer-{}", std::process::id()));
    let mut scene = Scene::new(1);
    scene.outer.listener = Some(socket::listen(&path).unwrap());
    let come = |scene: &mut Scene| {
        let client = socket::connect(&path, REST).unwrap();
        scene.settle().unwrap();
        client
    };
    let at = Duration::from_secs(9);
    let hello = FromAgent::Hello { version: agentkernel_protocol::VERSION, at }.encode();
    scene.clients.clear();
    scene.settle().unwrap();
    assert_eq!(opened_and_closed(&scene), [(true, 0), (false, 0), (true, 1)]);
    scene.say(&[Message::Word { link: 1, after: AT_ONCE, frame: hello.as_bytes() }]).unwrap();
    descriptor::poll(&mut [], Some(Duration::from_millis(2))).unwrap();
    let client = come(&mut scene);
    descriptor::set_nonblocking(client.as_fd()).unwrap();
    let heard = read(client.as_fd());
    let word = agentkernel_protocol::Decoder::default().next(&mut &heard[..], FromAgent::parse);
    let Ok(Some(FromAgent::Hello { at: heard, .. })) = word else { panic!("{word:?}") };
    assert!((at + Duration::from_millis(2)..at * 2).contains(&heard), "{heard:?}");
    let second = come(&mut scene);
    assert_eq!(opened_and_closed(&scene), [(true, 2)]);

    drop(client);
    scene.settle().unwrap();
    assert_eq!(opened_and_closed(&scene), [(false, 1), (true, 3)]);
    scene.say(&[Message::Close { link: 3 }]).unwrap();
    assert_eq!(opened_and_closed(&scene), []);
    drop(second);
    scene.settle().unwrap();
    assert_eq!(opened_and_closed(&scene), [(false, 2), (true, 4)]);
    // Nobody waits for a client who has not come.
    drop(scene.inside);
    assert!(scene.outer.serve().is_empty());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn what_a_command_finds_in_its_input_goes_along_with_its_order() {
    let mut scene = Scene::new(1);
    read(scene.inside.as_fd());
    let client = scene.clients[0].link.as_fd();
    let null = descriptor::open_read(c"/dev/null").unwrap();
    let (_output, to_output) = descriptor::pipe().unwrap();
    let streams = [null.as_fd(), to_output.as_fd(), to_output.as_fd()];
    socket::send(client, &start(1, None), &streams).unwrap();
    scene.outer.turn(None).unwrap();
    let said = read(scene.inside.as_fd());
    let (mut rest, mut kinds) = (&said[..], Vec::new());
    while let Some(message) = Message::take(&mut rest).unwrap() {
        kinds.push(match message {
            Message::Streams { .. } => "streams",
            Message::Orders { .. } => "orders",
            Message::End { .. } => "end",
            _ => "something else",
        });
    }
    assert_eq!(kinds, ["streams", "orders", "end"]);
}

#[test]
fn nothing_is_heard_before_a_hello_of_the_same_version() {
    for (first, is_version) in [
        (Message::Hello { version: VERSION + 1 }, true),
        (Message::Close { link: 0 }, false),
        (Message::Data { at: Address { link: 0, channel: 2 }, bytes: b"x" }, false),
    ] {
        let (outside, inside) = socket::pair().unwrap();
        let outer = Outer::new(outside.try_clone().unwrap(), outside).unwrap();
        let mut bytes = Vec::new();
        first.put(&mut bytes);
        descriptor::write(inside.as_fd(), &bytes).unwrap();
        let why = outer.serve().why.unwrap();
        assert_eq!(matches!(why, MuxError::Version(_)), is_version, "{why}");
    }
    let (outside, inside) = socket::pair().unwrap();
    let outer = Outer::new(outside.try_clone().unwrap(), outside).unwrap();
    descriptor::write(inside.as_fd(), b"bash: agentkernel: command not found\n").unwrap();
    assert!(outer.serve().why.is_some());
}

/// Random numbers from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        match self.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.next() as u8),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 if !bytes.is_empty() => bytes[at] = self.below(16) as u8,
            4 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            _ => {}
        }
    }
}

/// All that an inner side may say, of links and channels that are there and that are not.
fn say_something(random: &mut Random, frames: &[Vec<u8>]) -> Vec<u8> {
    let link = random.below(4) as u64;
    let channel = random.below(5) as u32;
    let at = Address { link, channel: channel.max(1) };
    let data = vec![7; 1 + random.below(MAX_DATA)];
    let position = [0, 1, data.len() as u64, u64::MAX][random.below(4)];
    let frame = &frames[random.below(frames.len())];
    let after = match channel {
        FRAMES => AT_ONCE,
        channel => [(channel, position), (FRAMES, 0)],
    };
    let message = match random.below(16) {
        0 => Message::Close { link },
        1..5 => Message::Word { link, after, frame },
        5 => Message::End { at },
        6 => Message::Broken { at },
        7 => Message::Credit { at: Address { link, channel }, bytes: 1 + random.below(9) as u32 },
        8 => Message::Size { at, rows: 1, columns: 1 },
        _ => Message::Data { at, bytes: &data },
    };
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    bytes
}

#[test]
fn whatever_is_said_it_neither_panics_nor_holds_too_much() {
    const ROUNDS: usize = 400;
    const MOST: usize = 3 * 2 * ((WINDOW + RESERVE) as usize + MAX_DATA) + 3 * WORDS as usize * 8;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let given = std::env::var("FUZZ_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or(now.as_nanos() as u64).max(1);
    println!("FUZZ_SEED={seed}");
    let mut random = Random(seed);
    let (command, errno, stage) = (0, 5, Stage::Program);
    let frames: Vec<Vec<u8>> = [
        FromAgent::Hello { version: agentkernel_protocol::VERSION, at: Duration::ZERO },
        FromAgent::Terminal { command },
        FromAgent::Started { command, at: Duration::ZERO },
        FromAgent::NotStarted { command, stage, errno },
        FromAgent::Done { command },
    ]
    .iter()
    .map(|word| word.encode().as_bytes().to_vec())
    .chain([ended(0)])
    .collect();
    let mut refused = 0;
    for round in 0..ROUNDS {
        let mut scene = Scene::new(3);
        if round % 40 == 0 {
            // One of them has a terminal, too.
            let client = scene.clients[0].link.as_fd();
            socket::send(client, &start(1, Some((24, 80))), &[]).unwrap();
            scene.settle().unwrap();
        }
        for _ in 0..random.below(60) {
            let mut bytes = say_something(&mut random, &frames);
            if random.below(12) == 0 {
                random.spoil(&mut bytes);
            }
            if scene.say_bytes(&bytes).is_err() {
                refused += 1;
                break;
            }
            if random.below(4) == 0 {
                scene.clients.iter().for_each(|client| drop(read(client.outputs[0].as_fd())));
            }
            if random.below(30) == 0 && !scene.clients.is_empty() {
                scene.clients.pop();
            }
            assert!(scene.outer.held() <= MOST, "{} bytes are held", scene.outer.held());
        }
        for client in &scene.clients {
            read(client.link.as_fd());
        }
    }
    assert!(refused > ROUNDS / 10 && refused < ROUNDS, "{refused} of {ROUNDS} were refused");
}

#[test]
fn channels_are_those_that_the_tests_take_them_for() {
    let scene = Scene::new(1);
    let said = read(scene.inside.as_fd());
    let mut rest = &said[..];
    let mut given = None;
    while let Some(message) = Message::take(&mut rest).unwrap() {
        if let Message::Streams { streams: Streams::Given(channels), .. } = message {
            given = Some(channels);
        }
    }
    assert_eq!(given, Some(Scene::CHANNELS));
}
