//! What a sandbox costs that waits for its next command.

use std::collections::HashSet;
use std::fs;

use crate::control::Control;
use crate::report::section_name;
use crate::result::{Case, LIVE, Section};
use crate::world::World;

/// Makes so many sandboxes live, and tells what each has cost: the processes that have appeared on
/// the machine and stay, engines' own included, and what is gone of the available memory, which is
/// the kernel's share, too. Others who start processes at that moment spoil it.
pub fn memory(
    world: &World,
    backend: &str,
    count: u64,
    control: &Control,
) -> Result<Vec<Case>, String> {
    control.begin(section_name(Section::Memory), count);
    let text = |error: std::io::Error| error.to_string();
    let mut case = Case::ours(Section::Memory, backend, LIVE);
    let (before, available) = (processes(), available().map_err(text)?);
    let mut made = 0_u64;
    for number in 0..count {
        if control.is_stopped() {
            break;
        }
        case.attempts += 1;
        let name = world.name(&format!("waits-{number}"));
        match world.must(&["create", "--start", &name, "-B", backend]) {
            Ok(_) => made += 1,
            Err(error) => case.fail(error.to_string(), 1),
        }
        control.advance();
    }
    let appeared: Vec<u32> = processes().difference(&before).copied().collect();
    let shares: Vec<u64> = appeared.iter().filter_map(|pid| proportional(*pid)).collect();
    let gone = available.saturating_sub(self::available().map_err(text)?);
    if let Err(error) = world.remove_sandboxes() {
        // That spoils what comes next, and not what was measured.
        case.fail(error.to_string(), 1);
    }
    if made > 0 {
        let each = |sum: u64| sum as f64 / made as f64;
        case.values = [
            ("sandboxes".to_owned(), made as f64),
            ("processes".to_owned(), each(shares.len() as u64)),
            ("pss-bytes".to_owned(), each(shares.iter().sum())),
            ("available-bytes".to_owned(), each(gone)),
        ]
        .into();
    }
    Ok(vec![case])
}

fn processes() -> HashSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process's proportional set size, in bytes; none if it has gone or is the kernel's.
fn proportional(pid: u32) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

fn available() -> std::io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    field(&text, "MemAvailable:")
        .ok_or_else(|| std::io::Error::other("/proc/meminfo tells nothing"))
}

/// A figure in kilobytes, as bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
