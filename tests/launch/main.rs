//! A supervisor's view of containers: one process that makes many and executes probes in them,
//! and must be the same after each call. Needs root.
//!
//! carob clones without executing, which only a process of one thread may do: so no test harness.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

mod checks;
mod scene;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use scene::Scene;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, count] = args.as_slice()
        && word == "measure"
    {
        let scene = Scene::new();
        checks::measure(&scene, count.parse().unwrap());
        scene.end();
        return ExitCode::SUCCESS;
    }
    // Options of cargo's own harness are accepted.
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    let chosen = checks::ALL
        .iter()
        .filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str())));
    if args.iter().any(|arg| arg == "--list") {
        chosen.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root || !args.iter().any(|arg| arg == "--include-ignored" || arg == "--ignored") {
        println!("\ntest result: ok. 0 passed; 0 failed; {} ignored", checks::ALL.len());
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in chosen {
        let scene = Scene::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&scene)));
        let left = scene.end();
        match outcome {
            Ok(()) if left.is_empty() => passed += 1,
            _ => failed += 1,
        }
        let word = if outcome.is_ok() && left.is_empty() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} {}", left.join(", "));
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored");
    ExitCode::from(u8::from(failed != 0))
}
