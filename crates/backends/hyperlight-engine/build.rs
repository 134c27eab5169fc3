//! Builds the guest, and says where it is or why there is none. Without one the backend is not there, and
//! the build goes on.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const NAME: &str = "guest";

fn main() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let (image, missing) = match build(&out) {
        Ok(image) => (fs::read(image)?, String::new()),
        Err(why) => (Vec::new(), why.to_string()),
    };
    fs::write(out.join("guest.elf"), image)?;
    fs::write(out.join("missing.txt"), missing)?;
    Ok(())
}

fn build(out: &Path) -> Result<PathBuf> {
    let crates = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let root = crates.join("../..").canonicalize()?;
    for watched in
        [&crates.join("hyperlight-guest"), &crates.join("wasm-calls"), &root.join("Cargo.lock")]
    {
        println!("cargo:rerun-if-changed={}", watched.display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    if (env::var("CARGO_CFG_TARGET_ARCH")?, env::var("CARGO_CFG_TARGET_OS")?)
        != ("x86_64".into(), "linux".into())
    {
        return Err("micro-VMs are for Linux on x86_64".into());
    }
    let place = shared(out).unwrap_or_else(|| out.into());
    let package = package(&place, &crates, &root)?;
    let output = cargo(&package, &place)?.output()?;
    if !output.status.success() {
        return Err(told(&output).into());
    }
    Ok(place.join("target").join(TARGET).join("release").join(NAME))
}

/// Where all profiles build their guest, which is the same for each and takes a minute: in cargo's own
/// folder of what is built, if it is found from this script's, TARGET/PROFILE/build/PACKAGE/out in it.
fn shared(out: &Path) -> Option<PathBuf> {
    let name = match env::var_os("CARGO_FEATURE_PLAIN_GUEST") {
        Some(_) => "plain-guest",
        None => "guest",
    };
    let top = out.ancestors().nth(5)?;
    top.join("CACHEDIR.TAG").exists().then(|| top.join(name))
}

/// A package of the guest that is its own workspace, since its dependencies are to have no features but
/// what it asks for. Its versions are those of the workspace.
fn package(place: &Path, crates: &Path, root: &Path) -> Result<PathBuf> {
    let package = place.join("package");
    fs::create_dir_all(package.join("memfd/src"))?;
    // For Linux wasmtime names this as a need, which brings the standard library in; without that it is
    // never used.
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    let version = locked(&lock, "memfd").ok_or("the lock file has no memfd")?;
    let memfd =
        format!("[package]\nname = \"memfd\"\nversion = \"{version}\"\nedition = \"2024\"\n");
    write_if_changed(&package.join("memfd/Cargo.toml"), &memfd)?;
    write_if_changed(&package.join("memfd/src/lib.rs"), "#![no_std]\n")?;
    let manifest = MANIFEST.replace("CRATES", crates.to_str().ok_or("a path is not UTF-8")?);
    write_if_changed(&package.join("Cargo.toml"), &manifest)?;
    write_if_changed(&package.join("Cargo.lock"), &lock)?;
    Ok(package)
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split('"').next()
}

const MANIFEST: &str = r#"
[package]
name = "guest"
version = "0.0.0"
edition = "2024"

[[bin]]
name = "guest"
path = "CRATES/hyperlight-guest/guest/main.rs"

[dependencies]
agentkernel-hyperlight-guest = { path = "CRATES/hyperlight-guest" }
agentkernel-wasm-calls = { path = "CRATES/wasm-calls" }
hyperlight-common = { version = "=0.18.0", default-features = false }
hyperlight-guest = { version = "=0.18.0", default-features = false }
hyperlight-guest-bin = { version = "=0.18.0", default-features = false, features = ["macros"] }
spin = { version = "0.12", default-features = false, features = ["spin_mutex"] }
wasmtime = { version = "48", default-features = false, features = ["custom-virtual-memory", "demangle", "runtime"] }

[patch.crates-io]
memfd = { path = "memfd" }

[profile.release]
codegen-units = 1
lto = "fat"
panic = "abort"
strip = true

[workspace]
"#;

/// Else cargo would have to look at it again.
fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|now| now == text) {
        return Ok(());
    }
    Ok(fs::write(path, text)?)
}

/// The same cargo and compiler as for everything else, with nothing else of the environment: flags and
/// settings that are meant for the outer build would break this one.
fn cargo(package: &Path, place: &Path) -> Result<Command> {
    const KEPT: [&str; 12] = [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "HOME",
        "LD_LIBRARY_PATH",
        "MAKEFLAGS",
        "PATH",
        "RUSTC",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
        "SSL_CERT_FILE",
        "TMPDIR",
        "USER",
    ];
    let mut command = Command::new(env::var_os("CARGO").ok_or("no CARGO")?);
    let kept: Vec<(&str, OsString)> =
        KEPT.iter().filter_map(|name| Some((*name, env::var_os(name)?))).collect();
    command.env_clear().envs(kept).env("CARGO_ENCODED_RUSTFLAGS", flags().join("\x1f"));
    command.current_dir(package);
    command.args([
        "build",
        "--release",
        "--offline",
        "--quiet",
        "--color=never",
        "--target",
        TARGET,
    ]);
    command.arg("--target-dir").arg(place.join("target"));
    Ok(command)
}

/// A program without an operating system, by a compiler and a linker that are there anyway.
fn flags() -> Vec<&'static str> {
    let features = match env::var_os("CARGO_FEATURE_PLAIN_GUEST") {
        // Whole programs only: the core library that is there has been compiled with all of these.
        Some(_) => "-Ctarget-feature=+crt-static,-mmx,-sse,-sse2,-x87,+soft-float",
        None => "-Ctarget-feature=+crt-static",
    };
    vec![
        "--cfg=hyperlight",
        "-Crelocation-model=pic",
        features,
        "-Clinker-flavor=ld.lld",
        "-Clinker=rust-lld",
        "-Clink-self-contained=no",
        "-Clink-args=-eentrypoint",
        "-Clink-args=-pie",
        "-Clink-args=--no-dynamic-linker",
        "-Clink-args=-znostart-stop-gc",
    ]
}

/// The first error of cargo's, or its last words.
fn told(output: &Output) -> String {
    const LINES: usize = 6;
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.iter().position(|line| line.starts_with("error"));
    let from = first.unwrap_or(lines.len().saturating_sub(LINES));
    let told: Vec<&str> = lines[from..].iter().take(LINES).map(|line| line.trim()).collect();
    if told.is_empty() { output.status.to_string() } else { told.join("; ") }
}
