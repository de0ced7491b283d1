//! The command line: the table of verbs, dispatch, and the one place that reports a failure.
//!
//! A verb is a row in `VERBS` and an argument struct that turns itself into a call of
//! [`crate::container`]. The arguments of a verb are only built when it is the one being called:
//! building all of them would cost more than the whole start of the program.

mod argv;
mod checkpoint;
mod create;
mod doctor;
mod events;
mod exec;
mod features;
mod generate;
mod global;
mod image;
mod lifecycle;
mod list;
mod output;
mod pod;
mod ps;
mod quick;
mod spec;
mod update;

use std::ffi::OsString;
use std::mem::ManuallyDrop;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, FromArgMatches};

use crate::{
    container::Runtime,
    error::{Error, Result},
    log,
    sys::{self_exe, start},
};
use global::Global;
use quick::{Call, Words};

/// What every verb is given besides its own arguments.
#[derive(Debug)]
struct Context {
    runtime: Runtime,
    root: RootChoice,
}

/// Where the state root comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RootChoice {
    /// The default, which need not exist yet.
    Default,
    /// `--root`.
    Explicit,
}

/// A subcommand. The struct holds its arguments.
trait Verb: clap::Args {
    /// How a failure is reported.
    const FAILURE: Failure = Failure { code: 1, prefix: "" };

    /// Reads what is left of a command line, if it is one of those that need no clap.
    fn quick(_words: Words) -> Option<Self> {
        None
    }

    /// Does it, and returns the exit status.
    fn run(self, context: &Context) -> Result<i32>;
}

/// How the failure of a verb looks from outside.
#[derive(Debug, Clone, Copy)]
struct Failure {
    code: u8,
    prefix: &'static str,
}

/// A row of the table of verbs.
struct Row {
    name: &'static str,
    about: &'static str,
    arguments: fn(Command) -> Command,
    quick: fn(Words) -> Option<Call>,
    run: fn(&mut ArgMatches, &Context) -> Result<i32>,
    failure: fn(&ArgMatches) -> Failure,
}

/// Every verb, in the order of `carob --help`.
const VERBS: &[Row] = &[
    row::<create::Create>("create", "Make a container and stop before its process runs"),
    row::<lifecycle::Start>("start", "Let a created container's process run"),
    row::<create::Run>("run", "Create a container, start it and wait for it"),
    row::<exec::Exec>("exec", "Run another process in a container"),
    row::<lifecycle::Kill>("kill", "Send a signal to a container's init process"),
    row::<lifecycle::Delete>("delete", "Remove a stopped container and all it holds"),
    row::<list::State>("state", "Print the state of a container as JSON"),
    row::<list::List>("list", "List containers"),
    row::<ps::Ps>("ps", "Show the processes of a container"),
    row::<lifecycle::Pause>("pause", "Freeze all processes of a container"),
    row::<lifecycle::Resume>("resume", "Thaw a paused container"),
    row::<update::Update>("update", "Change the limits of a container"),
    row::<events::Events>("events", "Print usage and out-of-memory kills of a container"),
    row::<spec::Spec>("spec", "Write a config.json to start from"),
    Row { name: "pod", about: "Run Kubernetes pods", ..pod::ROW },
    Row { name: "image", about: "Fetch, keep and show images", ..image::ROW },
    row::<features::Features>("features", "Print what this build supports"),
    row::<doctor::Doctor>(
        "doctor",
        "Look at this host: what works here, and what to do about the rest",
    ),
    row::<checkpoint::Unsupported>("checkpoint", "Not supported yet"),
    row::<checkpoint::Unsupported>("restore", "Not supported yet"),
    row::<generate::Completion>("completion", "Print a completion script for a shell"),
    row::<generate::Man>("man", "Write the manual pages"),
];

/// Those of which a process goes into a container.
const ENTERING: [&str; 3] = ["create", "run", "exec"];

const fn row<V: Verb + 'static>(name: &'static str, about: &'static str) -> Row {
    let failure = |_: &ArgMatches| V::FAILURE;
    Row { name, about, arguments: V::augment_args, quick: quick::<V>, run: run::<V>, failure }
}

fn quick<V: Verb + 'static>(words: Words) -> Option<Call> {
    let verb = V::quick(words)?;
    Some(Box::new(|context| verb.run(context)))
}

fn run<V: Verb>(matches: &mut ArgMatches, context: &Context) -> Result<i32> {
    V::from_arg_matches_mut(matches).map_err(|e| Error::Invalid(e.to_string()))?.run(context)
}

/// The whole tree of commands; the arguments of the verbs come when clap needs them.
fn tree() -> Command {
    with_verbs(VERBS.iter())
}

/// As much of the tree as the arguments can mean. To build all verbs costs more than to run some.
fn tree_for(args: &[OsString]) -> Command {
    with_verbs(VERBS.iter().filter(|row| args.iter().any(|arg| arg == row.name)))
}

fn with_verbs(rows: impl Iterator<Item = &'static Row>) -> Command {
    let verbs = rows.map(|row| Command::new(row.name).about(row.about).defer(row.arguments));
    <Global as clap::Args>::augment_args(Command::new("carob"))
        .about("Run containers from OCI bundles")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage("carob [OPTIONS] VERB [ARG]...")
        .after_help(EXAMPLES)
        .args_override_self(true)
        .disable_version_flag(true)
        .max_term_width(100)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .subcommands(verbs)
}

/// What a command line without a mistake says, it says to a part of the tree, too. Mistakes and
/// requests for help are answered by the whole.
fn parse(args: &[OsString]) -> clap::error::Result<ArgMatches> {
    // Not dropped, it goes with the process: taking it to pieces is work for nothing.
    let mut part = ManuallyDrop::new(tree_for(args));
    part.try_get_matches_from_mut(args).or_else(|_| tree().try_get_matches_from(args))
}

const EXAMPLES: &str = "\
Examples:
  carob spec --bundle DIR         write a config.json beside DIR/rootfs
  carob run --bundle DIR web      run it under the name `web`
  carob list                      see what there is";

/// Runs one command line and returns the exit status of the program.
pub fn main(args: Vec<OsString>) -> u8 {
    if let Err(errno) = start::prepare() {
        log::error(format_args!("prepare the standard streams: {errno}"));
        return 1;
    }
    let verb = args.iter().find_map(|arg| VERBS.iter().find(|row| arg == row.name));
    if verb.is_some_and(|row| ENTERING.contains(&row.name)) {
        self_exe::protect_early();
    }
    let args = argv::from_go_style(args);
    if let Some((row, global, call)) = quick::read(&args) {
        return finish(with_context(row, global, call), (row.failure)(&ArgMatches::default()));
    }
    match parse(&args).map(ManuallyDrop::new) {
        Ok(mut matches) => dispatch(&mut matches),
        Err(answer) => {
            global::open_log_leniently(&args);
            usage(&answer)
        }
    }
}

fn dispatch(matches: &mut ArgMatches) -> u8 {
    let verb = matches.remove_subcommand().and_then(|(name, arguments)| {
        let row = VERBS.iter().find(|row| row.name == name)?;
        Some((row, ManuallyDrop::new(arguments)))
    });
    let (outcome, failure) = match verb {
        Some((row, mut arguments)) => {
            let failure = (row.failure)(&arguments);
            let outcome = global_options(matches).and_then(|global| {
                with_context(row, global, |context| (row.run)(&mut arguments, context))
            });
            (outcome, failure)
        }
        None => (without_verb(matches), Failure { code: 1, prefix: "" }),
    };
    finish(outcome, failure)
}

fn finish(outcome: Result<i32>, failure: Failure) -> u8 {
    match outcome {
        // `run` and `exec` return what wait(2) can hold; anything else would be a bug of ours.
        Ok(status) => u8::try_from(status).unwrap_or(1),
        Err(error) => report(&error, failure),
    }
}

fn with_context(
    row: &Row,
    global: Global,
    call: impl FnOnce(&Context) -> Result<i32>,
) -> Result<i32> {
    let context = global.context()?;
    log::debug(format_args!("{}, state in {}", row.name, context.runtime.root.display()));
    call(&context)
}

fn without_verb(matches: &mut ArgMatches) -> Result<i32> {
    if global_options(matches)?.version {
        output::print(&global::version())?;
    } else {
        output::print(&tree().render_help().to_string())?;
    }
    Ok(0)
}

/// Taken out of what was parsed: clap would copy all of it first.
fn global_options(matches: &mut ArgMatches) -> Result<Global> {
    Global::from_arg_matches_mut(matches).map_err(|e| Error::Invalid(e.to_string()))
}

fn report(error: &Error, failure: Failure) -> u8 {
    if output::reader_left(error) {
        return 0;
    }
    log::error(format_args!("{}{error}", failure.prefix));
    failure.code
}

/// Help goes to stdout; a usage error to stderr with exit status 1, as clients of runc expect.
fn usage(answer: &clap::Error) -> u8 {
    let text = answer.render().to_string();
    // `carob pod` without a verb asks what there is, as `carob` does.
    let asks = answer.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if answer.use_stderr() && !asks {
        log::error(text.trim_start_matches("error: ").trim_end());
        return 1;
    }
    match output::print(&text) {
        Ok(()) => 0,
        Err(error) => report(&error, Failure { code: 1, prefix: "" }),
    }
}

#[cfg(test)]
mod tests;
