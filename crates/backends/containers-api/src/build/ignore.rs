//! What a `.dockerignore` leaves out of a build.
//!
//! The rules are those of <https://docs.docker.com/build/concepts/context/#dockerignore-files> and,
//! where that is silent, of moby's `patternmatcher`. They are not git's: a pattern without a slash
//! is about the folder's own entries only, and the last pattern that fits decides, even below a
//! folder that is left out.

/// The patterns of a file, in its order.
#[derive(Debug, Default)]
pub struct Ignore(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    /// Whether what fits is taken after all.
    takes: bool,
    tokens: Vec<Token>,
    /// What is written before anything that stands for more than itself, up to its last slash.
    fixed: Vec<u8>,
}

/// What fits the next bytes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**`: any number of folders, none among them. The next token is [`Inside`](Self::Inside).
    Folders,
    /// What has begun to be folders.
    Inside,
    /// `**` at the end: anything.
    Rest,
    /// `[a-z]`: ranges, and whether what is in none of them fits.
    Class {
        ranges: Vec<(u8, u8)>,
        negated: bool,
    },
}

impl Ignore {
    /// Reads a file, or says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut patterns = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            if line.starts_with(b"#") {
                continue;
            }
            let line = line.trim_ascii();
            let (takes, rest) = match line.strip_prefix(b"!") {
                Some(rest) => (true, rest.trim_ascii()),
                None => (false, line),
            };
            if rest.is_empty() && takes {
                return Err("a \"!\" stands alone".into());
            }
            let path = cleaned(rest);
            if path.is_empty() {
                continue;
            }
            let tokens = tokens(&path)
                .ok_or_else(|| format!("{:?} is no pattern", String::from_utf8_lossy(line)))?;
            patterns.push(Pattern { takes, tokens, fixed: fixed(&path) });
        }
        Ok(Self(patterns))
    }

    /// Whether an entry is left out: `path` is relative to the folder, without `.` and `..`.
    pub fn leaves_out(&self, path: &[u8]) -> bool {
        // A pattern that fits a folder is about all that is in it.
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let ends: Vec<usize> = ends.chain([path.len()]).collect();
        let fits = |pattern: &&Pattern| ends.iter().any(|end| fits(&pattern.tokens, &path[..*end]));
        self.0.iter().rev().find(fits).is_some_and(|pattern| !pattern.takes)
    }

    /// Whether something in a folder that is left out may be taken after all, so that it has to be
    /// looked through.
    pub fn may_take_below(&self, folder: &[u8]) -> bool {
        let folder = [folder, b"/"].concat();
        let reaches = |fixed: &[u8]| fixed.starts_with(&folder) || folder.starts_with(fixed);
        self.0.iter().any(|pattern| pattern.takes && reaches(&pattern.fixed))
    }
}

/// A path without `.`, `..`, and slashes that say nothing.
fn cleaned(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            // Nothing above the folder can be in it.
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// `None` if it is no pattern: a class that does not end, or a backslash at the end.
fn tokens(pattern: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'*', [b'*', after @ ..]) => {
                rest = after.strip_prefix(b"/").unwrap_or(after);
                match rest.is_empty() {
                    true => tokens.push(Token::Rest),
                    false => tokens.extend([Token::Folders, Token::Inside]),
                }
            }
            (b'*', _) => tokens.push(Token::Some),
            (b'?', _) => tokens.push(Token::One),
            (b'[', _) => {
                let (class, after) = class(after)?;
                tokens.push(class);
                rest = after;
            }
            (b'\\', [escaped, after @ ..]) => {
                tokens.push(Token::Byte(*escaped));
                rest = after;
            }
            (b'\\', []) => return None,
            (byte, _) => tokens.push(Token::Byte(*byte)),
        }
    }
    Some(tokens)
}

/// A class, whose bracket has been opened, and what follows it.
fn class(text: &[u8]) -> Option<(Token, &[u8])> {
    let (negated, mut rest) = match text.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let one = |text: &[u8]| match text {
        [b'\\', byte, ..] => Some((*byte, 2)),
        [b'\\' | b'-' | b']', ..] | [] => None,
        [byte, ..] => Some((*byte, 1)),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(b"]").filter(|_| !ranges.is_empty()) {
            return Some((Token::Class { ranges, negated }, after));
        }
        let (low, length) = one(rest)?;
        rest = &rest[length..];
        let high = match rest.strip_prefix(b"-") {
            Some(after) => {
                let (high, length) = one(after)?;
                rest = &after[length..];
                high
            }
            None => low,
        };
        ranges.push((low, high));
    }
}

fn fixed(pattern: &[u8]) -> Vec<u8> {
    let end = pattern.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(pattern.len());
    match (end == pattern.len(), pattern[..end].iter().rposition(|byte| *byte == b'/')) {
        (true, _) => [pattern, b"/"].concat(),
        (false, Some(slash)) => pattern[..=slash].to_vec(),
        (false, None) => Vec::new(),
    }
}

/// Whether all of `path` fits. It takes as long as both are, multiplied, whatever is in them.
fn fits(tokens: &[Token], path: &[u8]) -> bool {
    // Which tokens may be the next.
    let mut next = vec![false; tokens.len() + 1];
    let go_to = |next: &mut [bool], mut at: usize| {
        // What may stand for nothing is passed, too.
        loop {
            next[at] = true;
            match tokens.get(at) {
                Some(Token::Folders) => {
                    next[at + 1] = true;
                    at += 2;
                }
                Some(Token::Some | Token::Rest) => at += 1,
                _ => break,
            }
        }
    };
    go_to(&mut next, 0);
    for byte in path {
        let mut after = vec![false; tokens.len() + 1];
        for (at, token) in tokens.iter().enumerate().filter(|(at, _)| next[*at]) {
            let is_slash = *byte == b'/';
            match token {
                Token::Byte(expected) if byte == expected => go_to(&mut after, at + 1),
                Token::One if !is_slash => go_to(&mut after, at + 1),
                Token::Some if !is_slash => go_to(&mut after, at),
                Token::Rest => go_to(&mut after, at),
                Token::Inside => {
                    after[at] = true;
                    if is_slash {
                        go_to(&mut after, at + 1);
                    }
                }
                Token::Class { ranges, negated } if !is_slash => {
                    let is_in = ranges.iter().any(|(low, high)| (low..=high).contains(&byte));
                    if is_in != *negated {
                        go_to(&mut after, at + 1);
                    }
                }
                Token::Byte(_)
                | Token::One
                | Token::Some
                | Token::Folders
                | Token::Class { .. } => {}
            }
        }
        next = after;
    }
    next[tokens.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out<'a>(file: &str, paths: &'a str) -> Vec<&'a str> {
        let ignore = Ignore::parse(file.as_bytes()).unwrap();
        paths.split(' ').filter(|path| ignore.leaves_out(path.as_bytes())).collect()
    }

    #[test]
    fn the_examples_of_dockers_documentation() {
        // https://docs.docker.com/build/concepts/context/#dockerignore-files
        let file = "# comment\n*/temp*\n*/*/temp*\ntemp?\n";
        let paths = "somedir/temporary.txt somedir/temp somedir/subdir/temporary.txt tempa tempb";
        assert_eq!(left_out(file, paths), paths.split(' ').collect::<Vec<_>>());
        assert_eq!(left_out(file, "temp temporary.txt a/b/c/temp # comment"), [""; 0]);
        let paths = "a.go b/a.go b/c/a.go a.gox go .go";
        assert_eq!(left_out("**/*.go", paths), ["a.go", "b/a.go", "b/c/a.go", ".go"]);
        let paths = "README.md README-secret.md other.md sub/other.md";
        assert_eq!(left_out("*.md\n!README.md", paths), ["README-secret.md", "other.md"]);
        let file = "*.md\n!README*.md\nREADME-secret.md";
        assert_eq!(left_out(file, paths), ["README-secret.md", "other.md"]);
        let file = "*.md\nREADME-secret.md\n!README*.md";
        assert_eq!(left_out(file, paths), ["other.md"]);
        // Slashes at either end mean nothing, and neither do `.` and `..`.
        for same in ["/foo/bar", "foo/bar/", "./foo/bar", "x/../foo//bar", "  foo/bar  \r"] {
            assert_eq!(left_out(same, "foo/bar foo/bar/x bar foo"), ["foo/bar", "foo/bar/x"]);
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_to_moby() {
        // As in moby's patternmatcher_test.go.
        for (pattern, path, expected) in [
            ("**", "file", true),
            ("**", "file/", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir", false),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("a**", "abc", true),
            ("a**/b", "ax/b", true),
            ("a**/b", "a/b", true),
            ("*", "dir/file", true),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aae", true),
            ("a[\\]]", "a]", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a.b", "axb", false),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("[$.]x", "$x", true),
            ("a?b", "a/b", false),
            ("", "x", false),
            (".", "x", false),
        ] {
            let found = left_out(pattern, path);
            assert_eq!(!found.is_empty(), expected, "{pattern} {path}");
        }
        for wrong in ["[", "[]", "[a", "[]a]", "[-]", "[x-]", "[-x]", "a[", "\\", "!", "! "] {
            assert!(Ignore::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_is_looked_through_only_where_something_may_be_taken() {
        let of = |file: &str, folder: &str| {
            Ignore::parse(file.as_bytes()).unwrap().may_take_below(folder.as_bytes())
        };
        assert!(!of("node_modules", "node_modules"));
        assert!(!of("*\n!src", "node_modules"));
        assert!(of("*\n!src/keep", "src"));
        assert!(of("*\n!src", "src/deep"));
        assert!(of("*\n!**/*.md", "docs"));
        assert!(of("docs\n!docs/*.md", "docs"));
        assert!(!of("docs\n!src/*.md", "docs"));
    }

    #[test]
    fn no_pattern_takes_forever() {
        let pattern = "*a".repeat(200) + "b";
        let path = "a".repeat(4000);
        assert_eq!(left_out(&pattern, &path), [""; 0]);
    }
}
