//! Command lines in the style of Go's `flag` package, which clients of runc write: `-no-subreaper`
//! for `--no-subreaper`, and `--detach=true` or `=false`.

use std::ffi::OsString;

use clap::{Arg, Args, Command};

use super::{VERBS, global::Global};

/// Rewrites Go-style options into GNU style, up to the first argument that is no option: what
/// follows belongs to the verb. Costs next to nothing if there is nothing to rewrite.
pub(super) fn from_go_style(args: Vec<OsString>) -> Vec<OsString> {
    let needs_work = |arg: &str| looks_like_go(arg) || names_image(arg);
    if args.iter().skip(1).any(|arg| arg.to_str().is_some_and(needs_work)) {
        rewrite(args)
    } else {
        args
    }
}

/// `run --image IMAGE CMD ARG...`: what follows the image's options is a command line of its own.
fn names_image(arg: &str) -> bool {
    arg == "--image" || arg.starts_with("--image=")
}

/// A single dash with a name of several letters, or a value that may belong to a switch.
fn looks_like_go(arg: &str) -> bool {
    let Some(name) = arg.strip_prefix('-') else { return false };
    (!name.starts_with('-') && name.len() > 2)
        || name.rsplit_once('=').is_some_and(|(_, value)| boolean(value).is_some())
}

fn rewrite(args: Vec<OsString>) -> Vec<OsString> {
    let mut options = Global::augment_args(Command::new("carob"));
    let mut before_verb = true;
    let mut has_command = false;
    let mut rest = args.into_iter();
    let mut out: Vec<OsString> = rest.by_ref().take(1).collect();
    while let Some(arg) = rest.next() {
        let Some(text) = arg.to_str() else {
            out.push(arg);
            break;
        };
        if text == "--" || !text.starts_with('-') {
            let verb = VERBS.iter().find(|row| before_verb && row.name == text);
            if has_command && verb.is_none() && text != "--" {
                out.push("--".into());
            }
            out.push(arg);
            let Some(verb) = verb else { break };
            options = (verb.arguments)(Command::new(verb.name));
            before_verb = false;
            continue;
        }
        let Some((option, spelled, value)) = find(&options, text) else {
            out.push(arg);
            continue;
        };
        has_command |= option.get_id() == "image";
        match (option.get_action().takes_values(), value) {
            (true, Some(value)) => out.push(format!("{spelled}={value}").into()),
            (true, None) => {
                out.push(spelled.into());
                out.extend(rest.next());
            }
            (false, None) => out.push(spelled.into()),
            (false, Some(value)) => match boolean(value) {
                Some(true) => out.push(spelled.into()),
                Some(false) => {}
                None => out.push(arg),
            },
        }
    }
    out.extend(rest);
    out
}

/// The option that `text` names, its GNU spelling, and the value after `=`.
fn find<'a, 'b>(options: &'a Command, text: &'b str) -> Option<(&'a Arg, String, Option<&'b str>)> {
    let name = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    let (name, value) = match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    };
    let long = options.get_arguments().find(|arg| arg.get_long() == Some(name));
    let short = || {
        let letter = text.strip_prefix('-')?.split('=').next()?;
        let mut named = options.get_arguments();
        named.find(|arg| arg.get_short().is_some_and(|short| letter == short.to_string()))
    };
    match long {
        Some(arg) => Some((arg, format!("--{name}"), value)),
        None => short().map(|arg| (arg, format!("-{name}"), value)),
    }
}

/// What Go's `strconv.ParseBool` accepts.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_style_becomes_gnu_style() {
        let table = [
            ("carob run -no-subreaper -bundle B c1", "carob run --no-subreaper --bundle B c1"),
            ("carob -root R -debug list", "carob --root R --debug list"),
            ("carob -root=R list -quiet", "carob --root=R list --quiet"),
            ("carob run --detach=true c1", "carob run --detach c1"),
            ("carob run --detach=false c1", "carob run c1"),
            ("carob run -d=false -b B c1", "carob run -b B c1"),
            ("carob --systemd-cgroup=1 list", "carob --systemd-cgroup list"),
            ("carob run --detach=maybe -keep c1", "carob run --detach=maybe --keep c1"),
            // A value is never taken for an option, nor for the verb.
            ("carob --root -debug -debug list", "carob --root -debug --debug list"),
            ("carob --root run list -quiet", "carob --root run list --quiet"),
            // Not ours: a container's argument, an environment variable, an unknown option.
            ("carob exec c1 ls -bundle --tty=false", "carob exec c1 ls -bundle --tty=false"),
            ("carob exec -e A=true c1 ls", "carob exec -e A=true c1 ls"),
            ("carob run -nosuch c1", "carob run -nosuch c1"),
            ("carob ps c1 -efww", "carob ps c1 -efww"),
        ];
        for (go, gnu) in table {
            let args = go.split(' ').map(OsString::from).collect();
            let expected: Vec<OsString> = gnu.split(' ').map(OsString::from).collect();
            assert_eq!(from_go_style(args), expected, "{go}");
        }
    }
}
