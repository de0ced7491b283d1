//! Builds `carob-pause`, which carob carries inside and writes into the root of each sandbox.
#![allow(clippy::print_stdout, reason = "how a build script talks to cargo")]

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = "src/pause/pause.rs";

/// No library, no relocation, one small segment, nothing that is not executed.
const FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-type=bin",
    "--crate-name=carob_pause",
    "-Copt-level=s",
    "-Cpanic=abort",
    "-Cstrip=symbols",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,-z,max-page-size=4096,-z,noseparate-code,-z,noexecstack",
    "-Clink-arg=-Wl,--build-id=none,--gc-sections,--no-eh-frame-hdr",
];

/// The order of functions in a release, for the linkers of GNU and LLVM alike: see scripts/order.
const ORDER: &str = ".cargo/functions.ld";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed={ORDER}");
    println!("cargo::rerun-if-env-changed=CAROB_LINK_MAP");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let here = std::env::current_dir().map_err(|error| error.to_string())?;
        println!("cargo::rustc-link-arg-bin=carob=-Wl,-T,{}", here.join(ORDER).display());
        if let Ok(map) = std::env::var("CAROB_LINK_MAP") {
            println!("cargo::rustc-link-arg-bin=carob=-Wl,-Map={map}");
        }
    }
    libseccomp()?;
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let variable = |name: &str| std::env::var_os(name).ok_or_else(|| format!("{name} is not set"));
    let output = Path::new(&variable("OUT_DIR")?).join("carob-pause");
    let mut command = Command::new(variable("RUSTC")?);
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|library| library == "musl") {
        // Its start-up code comes with Rust, and is not wanted.
        command.arg("-Clink-self-contained=no");
    }
    command.args(FLAGS).arg("--target").arg(variable("TARGET")?).arg("-o").arg(&output);
    if let Some(linker) = std::env::var_os("RUSTC_LINKER") {
        let mut flag = OsString::from("-Clinker=");
        flag.push(linker);
        command.arg(flag);
    }
    let status = command.arg(SOURCE).status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

/// Debian's libseccomp.a, in a directory of its own: beside it lies the libc.a of another C library.
fn libseccomp() -> Result<(), String> {
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| error.to_string())?;
    let installed = format!("/usr/lib/{arch}-linux-gnu/libseccomp.a");
    println!("cargo::rerun-if-changed={installed}");
    if !Path::new(&installed).exists() {
        return Err(format!("{installed} is not there: install Debian's libseccomp-dev"));
    }
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    let dir = Path::new(&out).join("seccomp");
    let link = dir.join("libseccomp.a");
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if !link.exists() {
        std::os::unix::fs::symlink(&installed, &link)
            .map_err(|error| format!("{}: {error}", link.display()))?;
    }
    println!("cargo::rustc-link-search=native={}", dir.display());
    Ok(())
}
