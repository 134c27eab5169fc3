//! `agentkernel port NAME [PORT[/tcp|/udp]]`

use std::ffi::OsStr;

use agentkernel_core::{Backend, Port};
use agentkernel_engine::{Engine, Sandboxes};
use agentkernel_wire::PortsReport;

use crate::error::CommandError;
use crate::flags::LowArgs;
use crate::output;
use crate::verbs::Verb;

use super::{sandboxes, unexpected};

/// Shows the host's ports that lead into a sandbox.
pub(super) fn run(
    low: &LowArgs,
    backends: &'static [&'static dyn Backend],
) -> Result<u8, CommandError> {
    let (name, wanted) = match low.words.as_slice() {
        [] => return Err(sandboxes::missing(Verb::Port)),
        [name] => (sandboxes::name(name)?, None),
        [name, port] => (sandboxes::name(name)?, Some(target(port)?)),
        [_, _, word, ..] => return Err(unexpected(Verb::Port, word)),
    };
    let engine = Engine::new(backends);
    let record = sandboxes::open_for(&engine, &name)?.running(name.as_str())?;
    let mut ports = Sandboxes::place(&record).ports();
    if let Some(wanted) = &wanted {
        ports.retain(|port| port.target() == *wanted);
        if ports.is_empty() {
            return Err(CommandError::new(
                format!("no port of the host's leads to {wanted} of {}", record.name),
                format!("agentkernel port {} shows those that there are", record.name),
            ));
        }
    }
    if low.json {
        output::line(&PortsReport::new(record.name.into(), &ports).to_json())?;
        return Ok(0);
    }
    let line = |port: &Port| match wanted {
        None => format!("{port}\n"),
        Some(_) => format!("{}\n", port.host()),
    };
    output::text(&ports.iter().map(line).collect::<String>())?;
    Ok(0)
}

/// A port in a sandbox as [`Port::target`] has it.
fn target(word: &OsStr) -> Result<String, CommandError> {
    let text = word.to_str().unwrap_or_default();
    let (number, transport) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    match (number.parse::<u16>(), transport) {
        (Ok(1..), "tcp" | "udp") if is_number => Ok(format!("{number}/{transport}")),
        _ => Err(CommandError::new(
            format!("{word:?} is no port of a sandbox"),
            "give one such as 80, 80/tcp or 53/udp",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_of_tcp_unless_said() {
        let read = |text: &str| target(OsStr::new(text)).ok();
        assert_eq!(read("80").as_deref(), Some("80/tcp"));
        assert_eq!(read("80/tcp").as_deref(), Some("80/tcp"));
        assert_eq!(read("65535/udp").as_deref(), Some("65535/udp"));
        for text in ["", "0", "65536", "+80", "-80", "80/", "/tcp", "80/sctp", "80/tcp/udp", "x"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
