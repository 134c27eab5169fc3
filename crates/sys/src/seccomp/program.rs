//! The table turned into a program for the kernel's packet filter machine.
//!
//! Calls with a fixed answer are looked up by a binary search over ranges of numbers: some ten
//! instructions instead of the hundreds of a list, which every start of a command would pay for,
//! since the kernel tries each call's number on a new filter.

use libc::{c_long, sock_filter};

use super::{Policy, table};
use table::{Answer, Rule, Test, Word};

/// A filter, ready to be installed.
#[derive(Debug)]
pub struct Filter(Vec<sock_filter>);

/// Where the members of the kernel's `seccomp_data` lie.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const PRETEND: u32 = libc::SECCOMP_RET_ERRNO;

/// A jump that is given its distance when the target is known.
const OPEN: u8 = 0;

impl Filter {
    pub fn new(policy: Policy) -> Self {
        let no_lending = if policy.no_setuid_files { table::NO_LENDING } else { &[] };
        let no_internet = if policy.no_internet { table::NO_INTERNET } else { &[] };
        let mut filter = Self(Vec::with_capacity(512));
        filter.refuse_foreign_architectures();
        filter.load(NUMBER);
        // The first that fits counts.
        for rule in no_internet.iter().chain(table::RULES).chain(no_lending) {
            filter.apply(rule);
        }
        let allowed = [table::ALLOWED, table::ALLOWED_HERE, table::ALLOWED_BY_NUMBER];
        let mut answers: Vec<(u32, u32)> = allowed
            .into_iter()
            .flatten()
            .map(|&call| (number(call), ALLOW))
            .chain(table::ABSENT.iter().map(|&call| (number(call), ABSENT)))
            .collect();
        answers.sort_unstable();
        filter.search(&ranges(&answers));
        filter
    }

    pub(super) fn instructions(&self) -> &[sock_filter] {
        &self.0
    }

    /// The 32-bit calls of a 64-bit machine have other numbers, which this filter can't judge.
    fn refuse_foreign_architectures(&mut self) {
        self.load(ARCHITECTURE);
        self.jump(libc::BPF_JEQ, NATIVE, 1, 0);
        self.answer(ABSENT);
    }

    /// Answers the call if it is the one that the rule is about and passes its tests. Else what
    /// follows finds the call's number loaded again.
    fn apply(&mut self, rule: &Rule) {
        let other_call = self.0.len();
        self.jump(libc::BPF_JEQ, number(rule.call), 0, OPEN);
        // The jumps to take when a test fails, and whether they are taken if it is true.
        let mut failures = Vec::new();
        for test in rule.tests {
            self.test(*test, &mut failures);
        }
        self.answer(match rule.answer {
            Answer::Allow => ALLOW,
            Answer::Refuse => REFUSE,
            Answer::Absent => ABSENT,
            Answer::Pretend => PRETEND,
        });
        for (at, if_true) in failures {
            let distance = self.distance_from(at);
            if if_true {
                self.0[at].jt = distance;
            } else {
                self.0[at].jf = distance;
            }
        }
        self.load(NUMBER);
        self.0[other_call].jf = self.distance_from(other_call);
    }

    /// Goes on if the test holds.
    fn test(&mut self, test: Test, failures: &mut Vec<(usize, bool)>) {
        let (Test::AnyOf(word, _)
        | Test::Without(word, _)
        | Test::OneOf(word, _)
        | Test::Not(word, _)) = test;
        let Word(word) = word;
        self.load(ARGUMENTS + 4 * word);
        match test {
            Test::AnyOf(_, bits) => {
                failures.push((self.0.len(), false));
                self.jump(libc::BPF_JSET, bits, 0, OPEN);
            }
            Test::Without(_, bits) => {
                failures.push((self.0.len(), true));
                self.jump(libc::BPF_JSET, bits, OPEN, 0);
            }
            Test::Not(_, value) => {
                failures.push((self.0.len(), true));
                self.jump(libc::BPF_JEQ, value, OPEN, 0);
            }
            Test::OneOf(_, values) => {
                for (left, value) in (0..values.len()).rev().zip(values) {
                    if left == 0 {
                        failures.push((self.0.len(), false));
                    }
                    self.jump(libc::BPF_JEQ, *value, left as u8, OPEN);
                }
            }
        }
    }

    /// How far a jump at `at` has to go to what comes next.
    fn distance_from(&self, at: usize) -> u8 {
        u8::try_from(self.0.len() - at - 1).expect("a rule has a few dozen instructions at most")
    }

    /// Answers the call by the range that its number is in. `ranges` are (first number, answer),
    /// in order, the first from 0 on.
    fn search(&mut self, ranges: &[(u32, u32)]) {
        if let [(_, answer)] = ranges {
            return self.answer(*answer);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let fork = self.0.len();
        self.jump(libc::BPF_JGE, high[0].0, OPEN, 0);
        self.search(low);
        let distance = self.0.len() - fork - 1;
        // A distance has one byte; a longer way takes a jump of its own, which has four.
        if let Ok(distance) = u8::try_from(distance) {
            self.0[fork].jt = distance;
        } else {
            let hop = instruction(libc::BPF_JMP | libc::BPF_JA, distance as u32, 0, 0);
            self.0[fork].jf = 1;
            self.0.insert(fork + 1, hop);
        }
        self.search(high);
    }

    fn load(&mut self, offset: u32) {
        self.0.push(instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0));
    }

    fn jump(&mut self, test: u32, value: u32, if_true: u8, if_false: u8) {
        let code = libc::BPF_JMP | test | libc::BPF_K;
        self.0.push(instruction(code, value, if_true, if_false));
    }

    fn answer(&mut self, answer: u32) {
        self.0.push(instruction(libc::BPF_RET | libc::BPF_K, answer, 0, 0));
    }
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn number(call: c_long) -> u32 {
    u32::try_from(call).expect("system calls have small positive numbers")
}

/// Ranges of equal answers over all numbers, from single calls in order. What lies between them
/// is refused; what lies above the newest known call is absent (the x32 calls among it).
fn ranges(answers: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    let mut push = |first: u32, answer: u32| {
        if ranges.last().is_none_or(|(_, last)| *last != answer) {
            ranges.push((first, answer));
        }
    };
    let mut next = 0;
    for &(call, answer) in answers {
        if call > next {
            push(next, REFUSE);
        }
        push(call, answer);
        next = call + 1;
    }
    let newest = number(table::NEWEST_KNOWN);
    if next <= newest {
        push(next, REFUSE);
    }
    push(newest.max(next.saturating_sub(1)) + 1, ABSENT);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, on the calls that it allows a filter to use.
    fn run(filter: &Filter, architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(call.to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0_u64.to_le_bytes());
        arguments.iter().for_each(|a| data.extend(a.to_le_bytes()));
        let (mut at, mut accumulator) = (0_usize, 0_u32);
        loop {
            let i = filter.0[at];
            at += 1;
            let code = u32::from(i.code);
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                let k = i.k as usize;
                accumulator = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
            } else if code == libc::BPF_JMP | libc::BPF_JA {
                at += i.k as usize;
            } else if code == libc::BPF_RET | libc::BPF_K {
                return i.k;
            } else {
                let holds = match code & 0xf0 {
                    libc::BPF_JEQ => accumulator == i.k,
                    libc::BPF_JGE => accumulator >= i.k,
                    libc::BPF_JSET => accumulator & i.k != 0,
                    other => panic!("unknown test {other}"),
                };
                at += usize::from(if holds { i.jt } else { i.jf });
            }
        }
    }

    fn answer(filter: &Filter, call: c_long, arguments: [u64; 6]) -> u32 {
        run(filter, NATIVE, number(call), arguments)
    }

    const POLICIES: [Policy; 2] = Policy::OF_FILES;

    #[test]
    fn every_number_gets_the_answer_of_the_table() {
        for policy in POLICIES {
            let filter = Filter::new(policy);
            let ruled = |c: &c_long| {
                table::RULES.iter().chain(table::NO_LENDING).any(|rule| rule.call == *c)
            };
            for call in 0..2000 {
                if ruled(&call) {
                    continue;
                }
                let allowed = [table::ALLOWED, table::ALLOWED_HERE];
                let expected = if allowed.iter().any(|list| list.contains(&call)) {
                    ALLOW
                } else if table::ABSENT.contains(&call) || call > table::NEWEST_KNOWN {
                    ABSENT
                } else {
                    REFUSE
                };
                assert_eq!(answer(&filter, call, [0; 6]), expected, "call {call}");
            }
            // The x32 calls are the same numbers with bit 30 set.
            assert_eq!(run(&filter, NATIVE, 0x4000_0000, [0; 6]), ABSENT);
            assert_eq!(run(&filter, NATIVE, u32::MAX, [0; 6]), ABSENT);
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut all: Vec<c_long> =
            [table::ALLOWED, table::ALLOWED_HERE, table::ALLOWED_BY_NUMBER, table::ABSENT].concat();
        let listed = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), listed);
    }

    #[test]
    fn the_core_limit_seems_to_change_and_does_not() {
        let filter = Filter::new(POLICIES[0]);
        let core = u64::from(libc::RLIMIT_CORE);
        let prlimit =
            |resource, new| answer(&filter, libc::SYS_prlimit64, [0, resource, new, 0, 0, 0]);
        assert_eq!(prlimit(core, 0x7fff_0000_1000), PRETEND);
        assert_eq!(prlimit(core, 0x7fff_0000_0000), PRETEND);
        assert_eq!(prlimit(core, 0x1000), PRETEND);
        assert_eq!(prlimit(core, 0), ALLOW);
        assert_eq!(prlimit(u64::from(libc::RLIMIT_STACK), 0x1000), ALLOW);
        assert_eq!(answer(&filter, libc::SYS_setrlimit, [core, 1, 0, 0, 0, 0]), PRETEND);
        assert_eq!(answer(&filter, libc::SYS_setrlimit, [7, 1, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    fn of_netlink_only_routes_can_be_asked_for() {
        let filter = Filter::new(POLICIES[0]);
        let socket = |family: i32, protocol| {
            answer(&filter, libc::SYS_socket, [family as u64, 2, protocol, 0, 0, 0])
        };
        assert_eq!(socket(libc::AF_NETLINK, 0), ALLOW);
        assert_eq!(socket(libc::AF_NETLINK, 16), REFUSE);
        assert_eq!(socket(libc::AF_INET6, 17), ALLOW);
        assert_eq!(socket(libc::AF_VSOCK, 0), REFUSE);
    }

    #[test]
    fn without_the_internet_there_are_local_sockets_alone() {
        let filter = Filter::new(Policy { no_internet: true, ..Policy::default() });
        let socket =
            |family: i32| answer(&filter, libc::SYS_socket, [family as u64, 1, 0, 0, 0, 0]);
        assert_eq!([libc::AF_INET, libc::AF_INET6].map(socket), [REFUSE; 2]);
        assert_eq!(socket(libc::AF_UNIX), ALLOW);
    }

    #[test]
    fn another_architecture_finds_no_calls_at_all() {
        let i386 = 0x4000_0003;
        assert_eq!(run(&Filter::new(POLICIES[0]), i386, 1, [0; 6]), ABSENT);
    }

    #[test]
    fn terminal_input_is_refused_whatever_the_high_bits() {
        let filter = Filter::new(POLICIES[0]);
        for request in [libc::TIOCSTI, libc::TIOCLINUX] {
            for high in [0, 1 << 32, u64::from(u32::MAX) << 32] {
                let arguments = [0, request | high, 0, 0, 0, 0];
                assert_eq!(answer(&filter, libc::SYS_ioctl, arguments), REFUSE);
            }
        }
        assert_eq!(answer(&filter, libc::SYS_ioctl, [0, libc::TCGETS, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    fn processes_may_be_cloned_but_no_namespaces() {
        let filter = Filter::new(POLICIES[0]);
        let clone = |flags: i32| answer(&filter, libc::SYS_clone, [flags as u64, 0, 0, 0, 0, 0]);
        assert_eq!(clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::SIGCHLD), ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWPID] {
            assert_eq!(clone(flag | libc::SIGCHLD), REFUSE);
        }
    }

    #[test]
    fn setuid_bits_are_refused_only_where_files_outlive_the_sandbox() {
        let chmod =
            |policy, mode| answer(&Filter::new(policy), libc::SYS_fchmodat, [0, 0, mode, 0, 0, 0]);
        assert_eq!(chmod(POLICIES[0], 0o4755), ALLOW);
        assert_eq!(chmod(POLICIES[1], 0o755), ALLOW);
        assert_eq!(chmod(POLICIES[1], 0o4755), REFUSE);
        assert_eq!(chmod(POLICIES[1], 0o2755), REFUSE);
        let open = |flags: i32, mode| {
            let arguments = [0, 0, flags as u64, mode, 0, 0];
            answer(&Filter::new(POLICIES[1]), libc::SYS_openat, arguments)
        };
        assert_eq!(open(libc::O_CREAT, 0o4755), REFUSE);
        assert_eq!(open(libc::O_TMPFILE, 0o4755), REFUSE);
        assert_eq!(open(libc::O_CREAT, 0o755), ALLOW);
        // Without a file to be made, the mode is whatever was left in a register.
        assert_eq!(open(libc::O_DIRECTORY, 0o4755), ALLOW);
        assert_eq!(answer(&Filter::new(POLICIES[1]), libc::SYS_openat2, [0; 6]), ABSENT);
    }
}
