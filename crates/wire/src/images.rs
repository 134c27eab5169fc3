//! Which image fits a command or a project, as data.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An image with the programs and the projects that ask for it, each a list with spaces between.
struct Row {
    image: &'static str,
    /// Names of programs, without folders.
    programs: &'static str,
    /// Names in a project's folder. A `*` at the start stands for anything.
    files: &'static str,
}

/// What goes where nothing else is known. Debian and not the smaller Alpine, since commands are
/// written for GNU's tools, bash and glibc, which most machines and all images below have: what
/// works there works here, and a program from elsewhere finds its C library.
pub const DEFAULT: &str = "debian:13-slim";

/// The first row that names a program, or whose file is there, is the one. So what a project is
/// made of stands before what most projects also have: Django and Rails have a `package.json` too.
///
/// Each image is Docker's official one or its maker's own, with its major version, so that it stays
/// compatible and is still mended. Shells and the tools of the core are in none of the lists, since all of these images
/// have them: there the project is what chooses.
const TABLE: [Row; 15] = [
    Row { image: "rust:1-slim", programs: "cargo rustc rustdoc", files: "Cargo.toml" },
    Row { image: "golang:1", programs: "go gofmt", files: "go.mod go.work" },
    Row { image: "maven:3-eclipse-temurin-21", programs: "mvn", files: "pom.xml" },
    Row {
        image: "gradle:8-jdk21",
        programs: "gradle",
        files: "build.gradle build.gradle.kts settings.gradle settings.gradle.kts",
    },
    Row { image: "eclipse-temurin:21", programs: "java javac jar jshell", files: "" },
    Row { image: "ruby:3-slim", programs: "ruby gem bundle bundler rake irb", files: "Gemfile" },
    Row { image: "composer:2", programs: "composer", files: "" },
    Row { image: "php:8-cli", programs: "php", files: "composer.json" },
    Row {
        image: "python:3.13-slim",
        programs: "python python3 pip pip3",
        files: "pyproject.toml requirements.txt setup.py Pipfile",
    },
    Row { image: "perl:5-slim", programs: "perl cpan prove", files: "cpanfile Makefile.PL" },
    Row {
        image: "mcr.microsoft.com/dotnet/sdk:8.0",
        programs: "dotnet",
        files: "global.json *.csproj *.fsproj *.sln *.slnx",
    },
    Row { image: "denoland/deno:2", programs: "deno", files: "deno.json deno.jsonc" },
    Row { image: "oven/bun:1", programs: "bun bunx", files: "bun.lock bun.lockb" },
    Row { image: "node:22-slim", programs: "node npm npx corepack yarn", files: "package.json" },
    Row { image: "gcc:14", programs: "gcc g++ cc c++", files: "" },
];

/// No more of a folder is looked through: it may be anybody's.
const MOST_ENTRIES: usize = 4096;

/// The image for a command of this program, or else for the project in this folder, with the
/// reason, to follow "because".
///
/// Only the program's own name counts. What a shell or `env` then starts is not looked for, since
/// that would mean to understand their languages; whoever starts something in a shell names the
/// image, or has a project that does.
pub(crate) fn choose(program: Option<&OsStr>, project: Option<&Path>) -> (&'static str, String) {
    let program = program.and_then(|program| Path::new(program).file_name()?.to_str());
    if let Some(program) = program
        && let Some(row) = TABLE.iter().find(|row| words(row.programs).any(|word| word == program))
    {
        return (row.image, format!("the command is {program}"));
    }
    if let Some(folder) = project {
        let found = TABLE.iter().find_map(|row| Some((row, find(folder, row.files)?)));
        if let Some((row, file)) = found {
            return (row.image, format!("the project has {file}"));
        }
    }
    let neither = match project {
        Some(_) => "neither the command nor the project asks for another",
        None => "the command asks for no other, and no project is shown",
    };
    (DEFAULT, neither.into())
}

fn words(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split_ascii_whitespace()
}

/// The first of these files that the folder has. What can't be read has none.
fn find(folder: &Path, files: &'static str) -> Option<&'static str> {
    words(files).find(|file| match file.strip_prefix('*') {
        None => folder.join(file).is_file(),
        Some(end) => folder.read_dir().is_ok_and(|entries| {
            let mut names =
                entries.take(MOST_ENTRIES).filter_map(|entry| Some(entry.ok()?.file_name()));
            names.any(|name| name.as_bytes().ends_with(end.as_bytes()))
        }),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::Reference;

    fn by_program(program: &str) -> (&'static str, String) {
        choose(Some(OsStr::new(program)), None)
    }

    #[test]
    fn every_image_has_a_name_and_a_version() {
        for image in TABLE.iter().map(|row| row.image).chain([DEFAULT]) {
            let tag = Reference::parse(image).unwrap().tag.unwrap();
            assert!(tag.contains(|c: char| c.is_ascii_digit()), "{image}");
        }
    }

    #[test]
    fn no_program_and_no_file_stands_for_two_images() {
        for list in [|row: &Row| row.programs, |row: &Row| row.files] {
            let mut seen = BTreeSet::new();
            for word in TABLE.iter().flat_map(|row| words(list(row))) {
                assert!(seen.insert(word), "{word} is there twice");
                assert!(!word.contains('/') && !word[1..].contains('*'), "{word}");
            }
        }
    }

    #[test]
    fn a_program_chooses_by_its_own_name() {
        for (program, image) in [
            ("python3", "python:3.13-slim"),
            ("/usr/bin/python3", "python:3.13-slim"),
            ("npm", "node:22-slim"),
            ("cargo", "rust:1-slim"),
            ("go", "golang:1"),
            ("bundle", "ruby:3-slim"),
            ("javac", "eclipse-temurin:21"),
            ("dotnet", "mcr.microsoft.com/dotnet/sdk:8.0"),
            ("php", "php:8-cli"),
        ] {
            let name = program.rsplit('/').next().unwrap();
            assert_eq!(by_program(program), (image, format!("the command is {name}")));
        }
        for program in ["sh", "bash", "ls", "python3.9", "Python3", "", "/", "..", "a/"] {
            let (image, why) = by_program(program);
            assert_eq!(image, DEFAULT, "{program}");
            assert_eq!(why, "the command asks for no other, and no project is shown");
        }
    }

    #[test]
    fn a_project_chooses_where_the_program_does_not() {
        let folder = std::env::temp_dir().join(format!("images-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let has = |file: &str, program: &str| {
            fs::write(folder.join(file), "").unwrap();
            let chosen = choose(Some(OsStr::new(program)), Some(&folder));
            fs::remove_file(folder.join(file)).unwrap();
            chosen
        };
        let project = |image, file: &str| (image, format!("the project has {file}"));
        assert_eq!(has("Cargo.toml", "sh"), project("rust:1-slim", "Cargo.toml"));
        assert_eq!(has("Web.csproj", "sh"), {
            project("mcr.microsoft.com/dotnet/sdk:8.0", "*.csproj")
        });
        assert_eq!(has("Cargo.toml", "node"), ("node:22-slim", "the command is node".into()));
        let neither = "neither the command nor the project asks for another".to_owned();
        assert_eq!(has("notes.txt", "sh"), (DEFAULT, neither.clone()));
        // Rails has a package.json, too.
        fs::write(folder.join("package.json"), "").unwrap();
        assert_eq!(has("Gemfile", "sh"), project("ruby:3-slim", "Gemfile"));
        assert_eq!(choose(None, Some(&folder)), project("node:22-slim", "package.json"));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(choose(None, Some(&folder)), (DEFAULT, neither));
    }
}
