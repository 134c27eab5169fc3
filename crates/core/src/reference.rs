//! The names of images, by the grammar that all container engines share.
//!
//! It is that of <https://github.com/distribution/reference> (`regexp.go`, and `normalize.go` for
//! what is a registry), less what no engine can start: digests of unknown algorithms and ports
//! beyond 65535.

use std::net::Ipv6Addr;

/// The longest name, in bytes, without tag and digest.
const MAX_NAME: usize = 255;

/// The longest tag, in bytes.
const MAX_TAG: usize = 128;

/// A port has no more digits.
const MAX_PORT: usize = 5;

/// The algorithms of digests, with how many hexadecimal digits they make.
const ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// An image's name in its parts. Nothing is filled in: without a registry it is the engine's
/// default one, and without tag and digest it is the tag `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// With its registry, if one is named, as in `ghcr.io/owner/image`.
    pub name: &'a str,
    pub tag: Option<&'a str>,
    /// With its algorithm, as in `sha256:...`.
    pub digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Takes `text` apart, or says what is wrong with it, to follow a colon.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let is_known = |c: char| c.is_ascii_alphanumeric() || "._-/:@+[]".contains(c);
        if let Some(other) = text.chars().find(|c| !is_known(*c)) {
            return Err(format!("it holds {other:?}"));
        }
        if text.starts_with('-') {
            return Err("it begins with a dash".into());
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is a port's.
        let last = named.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match named[last..].find(':') {
            Some(at) => (&named[..last + at], Some(&named[last + at + 1..])),
            None => (named, None),
        };
        check_name(name)?;
        tag.map_or(Ok(()), check_tag)?;
        digest.map_or(Ok(()), check_digest)?;
        Ok(Self { name, tag, digest })
    }
}

/// The registry of names that have none, and the folder in it of those that have only one part.
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_FOLDER: &str = "library";

impl Reference<'_> {
    /// The registry that has it.
    pub fn registry(&self) -> &str {
        match self.name.split_once('/') {
            Some((first, _)) if is_registry(first) => first,
            _ => DEFAULT_REGISTRY,
        }
    }

    /// What the registry calls it, without tag and digest.
    pub fn repository(&self) -> String {
        let path = match self.name.split_once('/') {
            Some((first, path)) if is_registry(first) => path,
            _ => self.name,
        };
        match self.registry() == DEFAULT_REGISTRY && !path.contains('/') {
            true => format!("{DEFAULT_FOLDER}/{path}"),
            false => path.into(),
        }
    }

    /// All that it means, with everything filled in: two names are one image's if they are equal in
    /// full.
    pub fn in_full(&self) -> String {
        let tag = match (self.tag, self.digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{}/{}{tag}{digest}", self.registry(), self.repository())
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!("its name is longer than {MAX_NAME} characters"));
    }
    let path = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => {
            check_registry(first)?;
            path
        }
        _ => name,
    };
    path.split('/').try_for_each(check_component)?;
    // Engines would take it for an image's id, which is no name.
    if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("it is an id; tag the image, and give it by that".into());
    }
    Ok(())
}

/// Whether what stands before the first slash is a registry, and no part of a path.
fn is_registry(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), String> {
    let wrong = || Err(format!("{registry:?} is not a registry such as ghcr.io or localhost:5000"));
    // The colons in brackets are an address's own.
    let end = registry.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match registry[end..].find(':') {
        Some(at) => (&registry[..end + at], Some(&registry[end + at + 1..])),
        None => (registry, None),
    };
    let is_part = |part: &str| {
        !part.starts_with('-')
            && !part.ends_with('-')
            && !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_part),
    };
    let is_port = |port: &str| {
        port.len() <= MAX_PORT
            && port.bytes().all(|b| b.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    if is_host && port.is_none_or(is_port) { Ok(()) } else { wrong() }
}

/// Lower-case letters and digits, with single separators between them: a dot, one or two
/// underscores, or any number of dashes.
fn check_component(part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err("a part of its name is empty".into());
    }
    if part.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("{part:?} is not in lower case"));
    }
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    let ends_well = part.starts_with(is_plain) && part.ends_with(is_plain);
    if ends_well && part.split(is_plain).all(is_separator) {
        return Ok(());
    }
    Err(format!("{part:?} is not of letters and digits with \".\", \"_\" or \"-\" between them"))
}

fn check_tag(tag: &str) -> Result<(), String> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match tag.as_bytes() {
        [] => Err("the tag after \":\" is missing".into()),
        all if all.len() > MAX_TAG => Err(format!("its tag is longer than {MAX_TAG} characters")),
        [first, rest @ ..]
            if is_word(*first) && rest.iter().all(|b| is_word(*b) || b".-".contains(b)) =>
        {
            Ok(())
        }
        _ => Err(format!("{tag:?} is not a tag of letters, digits, \"_\", \".\" and \"-\"")),
    }
}

fn check_digest(digest: &str) -> Result<(), String> {
    let (name, hex) = digest.split_once(':').unwrap_or((digest, ""));
    let Some((_, length)) = ALGORITHMS.iter().find(|(known, _)| *known == name) else {
        return Err("the digest after \"@\" is not sha256, sha384 or sha512 with its digits".into());
    };
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if hex.len() == *length && hex.bytes().all(is_digit) {
        return Ok(());
    }
    Err(format!("a {name} digest is {length} hexadecimal digits in lower case"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (&str, Option<&str>, Option<&str>) {
        let Reference { name, tag, digest } = Reference::parse(text).unwrap();
        (name, tag, digest)
    }

    #[test]
    fn names_come_apart_at_tag_and_digest() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for (text, name, tag) in [
            ("python", "python", None),
            ("python:3.13-slim", "python", Some("3.13-slim")),
            ("localhost:5000", "localhost", Some("5000")),
            ("localhost:5000/z", "localhost:5000/z", None),
            ("localhost:5000/z:1", "localhost:5000/z", Some("1")),
            ("127.0.0.1:5000/a/b:v1_x.Y-Z", "127.0.0.1:5000/a/b", Some("v1_x.Y-Z")),
            ("[::1]:5000/z:1", "[::1]:5000/z", Some("1")),
            ("[2001:db8::1]/z", "[2001:db8::1]/z", None),
            ("GHCR.io/x/y", "GHCR.io/x/y", None),
            ("Host/x", "Host/x", None),
            ("library/a__b.c---d_e:_", "library/a__b.c---d_e", Some("_")),
            ("3", "3", None),
        ] {
            assert_eq!(parts(text), (name, tag, None));
            let pinned = format!("{text}@{digest}");
            assert_eq!(parts(&pinned), (name, tag, Some(digest.as_str())));
        }
    }

    #[test]
    fn in_full_a_name_has_a_registry_a_folder_and_a_tag() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        for (text, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:13", "docker.io/library/debian:13"),
            ("docker.io/debian:13", "docker.io/library/debian:13"),
            ("owner/image", "docker.io/owner/image:latest"),
            ("localhost:5000/z", "localhost:5000/z:latest"),
            ("localhost/z:1", "localhost/z:1"),
            ("ghcr.io/x/y", "ghcr.io/x/y:latest"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().in_full(), full);
        }
        let pinned = format!("debian@{digest}");
        let full = format!("docker.io/library/debian@{digest}");
        assert_eq!(Reference::parse(&pinned).unwrap().in_full(), full);
    }

    #[test]
    fn what_is_no_name_is_answered_with_why() {
        let hex = "0".repeat(64);
        for (text, why) in [
            ("", "empty"),
            ("a b", "holds ' '"),
            ("a\0", "holds '\\0'"),
            ("a\n", "holds '\\n'"),
            ("a%20", "holds '%'"),
            ("caf\u{e9}", "holds '\u{e9}'"),
            ("https://ghcr.io/x", "registry"),
            ("-x", "dash"),
            ("--privileged", "dash"),
            ("Python", "lower case"),
            ("ghcr.io/X/y", "lower case"),
            ("a/../b", "\"..\""),
            ("../x", "registry"),
            ("a//b", "empty"),
            ("a/", "empty"),
            ("/a", "empty"),
            (":1", "empty"),
            ("a..b", "between them"),
            ("a___b", "between them"),
            ("a.-b", "between them"),
            ("a_", "between them"),
            ("_a", "between them"),
            ("a+b", "between them"),
            ("-.io/a", "dash"),
            ("a-.io/b", "registry"),
            ("a..io/b", "registry"),
            ("a.io:/b", "registry"),
            ("a.io:65536/b", "registry"),
            ("a.io:000001/b", "registry"),
            ("a.io:+1/b", "registry"),
            ("a.io:1:2/b", "registry"),
            ("[::g]/b", "registry"),
            ("[::1]x/b", "registry"),
            ("[127.0.0.1]/b", "registry"),
            ("a:", "missing"),
            ("a:.1", "tag"),
            ("a:-1", "tag"),
            ("a:1:2", "tag"),
            ("a:1+2", "tag"),
            ("a@", "digest"),
            ("a@sha256:", "64"),
            ("a@sha256:00", "64"),
            ("a@md5:00", "sha256"),
            (&format!("a@sha256:{}", "A".repeat(64)), "lower case"),
            (&format!("a@sha256:{hex}@sha256:{hex}"), "64"),
            (&format!("a@sha512:{hex}"), "128"),
            (&hex, "an id"),
            (&"a".repeat(256), "255"),
            (&format!("a:{}", "1".repeat(129)), "128"),
        ] {
            let Err(said) = Reference::parse(text) else { panic!("{text:?} was taken") };
            assert!(said.contains(why), "{text:?}: {said}");
        }
        assert!(Reference::parse(&"a".repeat(255)).is_ok());
        assert!(Reference::parse(&format!("a:{}", "1".repeat(128))).is_ok());
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        // All texts of up to four of the characters that mean something, which is every border.
        let characters = ["a", "A", "0", ".", "_", "-", "/", ":", "@", "[", "]", "+", "\u{e9}"];
        let mut texts = vec![String::new()];
        let mut from = 0;
        for _ in 0..4 {
            let to = texts.len();
            for at in from..to {
                let longer = characters.map(|c| format!("{}{c}", texts[at]));
                texts.extend(longer);
            }
            from = to;
        }
        for text in texts {
            if let Ok(Reference { name, tag, digest }) = Reference::parse(&text) {
                let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
                let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
                assert_eq!(format!("{name}{tag}{digest}"), text);
            }
        }
    }
}
