//! What a user's settings file says of an engine that is elsewhere: `[kubernetes]` and `[nomad]`.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::file::{FileError, explain, text_of};
use crate::nearest;

/// Whether there is such a table. What is in it is read by [`read_engine`], for whoever asks that engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineTable(bool);

impl EngineTable {
    pub fn is_there(self) -> bool {
        self.0
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 || other.0)
    }
}

impl<'de> Deserialize<'de> for EngineTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// The tables of engines in a settings file, whatever else is there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Tables {
    kubernetes: BTreeMap<String, Said>,
    nomad: BTreeMap<String, Said>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, a number, a boolean or an array of texts")]
enum Said {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<String>),
}

impl Said {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(all) => all.join(","),
        }
    }
}

/// What the table `engine` says, as the `variables` that would say the same: `agent_image` in
/// `[kubernetes]` is `KUBERNETES_AGENT_IMAGE`. A list is what a variable has parted by commas.
pub fn read_engine(
    text: &[u8],
    engine: &str,
    variables: &[&str],
) -> Result<BTreeMap<String, String>, FileError> {
    let text = text_of(text)?;
    let tables: Tables = toml::from_str(text).map_err(|err| explain(text, &err))?;
    let table = match engine {
        "kubernetes" => tables.kubernetes,
        "nomad" => tables.nomad,
        _ => BTreeMap::new(),
    };
    let prefix = engine.to_ascii_uppercase() + "_";
    let mut found = BTreeMap::new();
    for (key, said) in table {
        let name = format!("{prefix}{}", key.to_ascii_uppercase());
        if !variables.contains(&&*name) || key != key.to_ascii_lowercase() {
            return Err(unknown(text, engine, &key, &prefix, variables));
        }
        found.insert(name, said.into_text());
    }
    Ok(found)
}

fn unknown(text: &str, engine: &str, key: &str, prefix: &str, variables: &[&str]) -> FileError {
    let keys = variables.iter().filter_map(|name| name.strip_prefix(prefix));
    let keys: Vec<String> = keys.map(str::to_ascii_lowercase).collect();
    let hint = match nearest(key, keys.iter().map(String::as_str)) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the keys are {}", keys.join(", ")),
    };
    // The table's own head is nearest to where it stands.
    let head = format!("[{engine}]");
    let line = text.lines().position(|line| line.trim() == head).map_or(1, |at| at + 1);
    let message = format!("unknown key `{key}` in {head}");
    FileError { line, column: 1, message, hint: Some(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] =
        &["KUBERNETES_AGENT_IMAGE", "KUBERNETES_TOLERATIONS", "KUBERNETES_DEADLINE"];

    fn read(text: &str) -> Result<BTreeMap<String, String>, FileError> {
        read_engine(text.as_bytes(), "kubernetes", NAMES)
    }

    #[test]
    fn a_table_says_what_variables_say() {
        let text = "backend = \"native\"\n[kubernetes]\nagent_image = \"a:1\"\ndeadline = 600\n\
                    tolerations = [\"a=b\", \"c\"]\n[nomad]\naddr = \"http://n\"";
        let found = read(text).unwrap();
        assert_eq!(found["KUBERNETES_AGENT_IMAGE"], "a:1");
        assert_eq!(found["KUBERNETES_DEADLINE"], "600");
        assert_eq!(found["KUBERNETES_TOLERATIONS"], "a=b,c");
        assert_eq!(found.len(), 3);
        assert_eq!(read("memory = \"1g\""), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_is_no_key_is_told_with_the_nearest() {
        let error = read("memory = \"1g\"\n[kubernetes]\nagent_imge = \"a\"").unwrap_err();
        assert_eq!((error.line, &*error.message), (2, "unknown key `agent_imge` in [kubernetes]"));
        assert_eq!(error.hint.as_deref(), Some("did you mean `agent_image`?"));
        assert!(read("[kubernetes]\nAGENT_IMAGE = \"a\"").is_err());
        assert!(read("[kubernetes]\nagent_image = 1.5").unwrap_err().message.contains("a text"));
    }
}
