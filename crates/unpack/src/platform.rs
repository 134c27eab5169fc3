//! What an image was built for, and which of several fits.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// An operating system and a processor, in the words of the OCI image specification (Go's).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl Platform {
    /// That of this machine.
    pub fn host() -> Self {
        Self::normal("linux", std::env::consts::ARCH, None)
    }

    /// What modules are for that don't say it.
    pub(crate) fn wasm() -> Self {
        Self::normal("wasi", "wasm", None)
    }

    /// Whether it is for modules, of whichever kind.
    pub(crate) fn is_wasm(&self) -> bool {
        matches!(self.architecture.as_str(), "wasm" | "wasm32")
    }

    /// With the usual names for all, as containerd has it: `aarch64` is `arm64`, and an `arm` of no
    /// variant is a `v7`.
    fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386" | "x86", _) => ("386", None),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("powerpc64", variant) if cfg!(target_endian = "little") => ("ppc64le", variant),
            other => other,
        };
        Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
    }

    /// How well this serves who asks for `asked`: the less the better, none if not at all. A
    /// processor of a higher number can do what one of a lower can. Other than containerd, nobody
    /// who asks for one architecture gets another, such as `386` for `amd64`.
    pub(crate) fn distance(&self, asked: &Self) -> Option<u32> {
        if self.is_wasm() && asked.is_wasm() {
            return Some(0);
        }
        let normal = |one: &Self| Self::normal(&one.os, &one.architecture, one.variant.as_deref());
        let (offered, asked) = (normal(self), normal(asked));
        if (&offered.os, &offered.architecture) != (&asked.os, &asked.architecture) {
            return None;
        }
        match (number(&offered), number(&asked)) {
            (Some(offered), Some(asked)) => asked.checked_sub(offered),
            _ => (offered.variant == asked.variant).then_some(0),
        }
    }
}

/// The number of a variant, as in `v7`.
fn number(platform: &Platform) -> Option<u32> {
    match (&platform.variant, platform.architecture.as_str()) {
        (Some(variant), _) => variant.strip_prefix('v')?.parse().ok(),
        (None, "arm64") => Some(8),
        (None, _) => Some(1),
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture] if !os.is_empty() && !architecture.is_empty() => {
                Ok(Self::normal(os, architecture, None))
            }
            [os, architecture, variant] if parts.iter().all(|part| !part.is_empty()) => {
                Ok(Self::normal(os, architecture, Some(variant)))
            }
            _ => Err(format!("{text:?} is no platform of the form linux/arm64 or linux/arm/v7")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_variant_that_is_not_above_serves() {
        let distance = |offered: &str, asked: &str| {
            offered.parse::<Platform>().unwrap().distance(&asked.parse().unwrap())
        };
        assert_eq!(distance("linux/amd64", "linux/x86_64"), Some(0));
        assert_eq!(distance("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(distance("linux/arm/v6", "linux/arm"), Some(1));
        assert_eq!(distance("linux/amd64", "linux/amd64/v3"), Some(2));
        assert_eq!(distance("wasip2/wasm", "wasi/wasm"), Some(0));
        for (offered, asked) in [
            ("linux/amd64/v3", "linux/amd64"),
            ("linux/arm/v7", "linux/arm/v6"),
            ("linux/386", "linux/amd64"),
            ("windows/amd64", "linux/amd64"),
            ("wasi/wasm", "linux/amd64"),
        ] {
            assert_eq!(distance(offered, asked), None, "{offered} for {asked}");
        }
        for wrong in ["", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }
}
