//! What a place says at its end.

/// What a place has said beside its stream: who reads it trusts it for no more than words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastWords(String);

/// Why a place may end of its own accord.
const FATES: [&str; 4] = ["ttl", "idle", "stopped", ADOPTED];

/// What is said in its place of one that goes on for somebody else.
pub const ADOPTED: &str = "adopted";

const OOM_KILLS: &str = "oom-kills ";

impl LastWords {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The line by which an agent says how many of its processes were killed for want of memory.
    pub fn oom_kills_line(kills: u64) -> String {
        format!("\n{OOM_KILLS}{kills}\n")
    }

    /// How many those were.
    pub fn oom_kills(&self) -> u64 {
        let told = self.0.lines().find_map(|line| line.strip_prefix(OOM_KILLS));
        told.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Why it has ended of its own accord, if it has.
    pub fn fate(&self) -> Option<&'static str> {
        FATES.into_iter().find(|fate| self.0.lines().any(|line| line == *fate))
    }

    /// All of it, such as why an agent can't serve.
    pub fn text(&self) -> &str {
        self.0.trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_understood() {
        let words = LastWords::new(format!("ttl{}", LastWords::oom_kills_line(2)));
        assert_eq!((words.fate(), words.oom_kills()), (Some("ttl"), 2));
        let words = LastWords::new("agentkernel: ttl\noom-kills x".into());
        assert_eq!((words.fate(), words.oom_kills()), (None, 0));
        assert_eq!(LastWords::default().text(), "");
    }
}
