//! Command lines as clients write them, read without clap: to build its tree costs a seventh of
//! what `state` takes, and an eighth of an `exec`.
//!
//! Only what cannot be misunderstood is read here: long options, each with its value, then the
//! operands. For anything else (short options, requests for help, every mistake) the answer is
//! `None`, and clap has the word. Tests hold that it would have understood the same.

use std::ffi::OsString;

use super::global::Global;
use super::{Context, Row, VERBS};
use crate::error::Result;

/// A verb with its arguments, ready to be done.
pub(super) type Call = Box<dyn FnOnce(&Context) -> Result<i32>>;

/// What a whole command line asks for.
pub(super) fn read(args: &[OsString]) -> Option<(&'static Row, Global, Call)> {
    let mut words = Words::new(args.get(1..)?);
    let global = Global::quick(&mut words)?;
    let verb = words.operand()?;
    let row = VERBS.iter().find(|row| row.name == verb)?;
    Some((row, global, (row.quick)(words)?))
}

/// What is left of a command line. Whatever is not as it is asked for is `None`.
#[derive(Debug)]
pub(super) struct Words<'a> {
    rest: &'a [OsString],
    /// Of `--option=VALUE`, until somebody wants it.
    attached: Option<&'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn new(rest: &'a [OsString]) -> Self {
        Self { rest, attached: None }
    }

    /// The name of the option that is next; `Some(None)` where the operands begin.
    pub(super) fn option(&mut self) -> Option<Option<&'a str>> {
        if self.attached.is_some() {
            return None;
        }
        let Some(word) = self.rest.first() else { return Some(None) };
        let word = word.to_str()?;
        if !word.starts_with('-') {
            return Some(None);
        }
        let option = word.strip_prefix("--").filter(|name| !name.is_empty())?;
        self.rest = self.rest.get(1..)?;
        let (name, value) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
        self.attached = value;
        Some(Some(name))
    }

    /// The value of the option that was just read.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        self.attached.take().or_else(|| self.plain_word()).filter(|value| !value.is_empty())
    }

    /// The next operand.
    pub(super) fn operand(&mut self) -> Option<&'a str> {
        if self.attached.is_some() { None } else { self.plain_word() }
    }

    /// The operand that is the last word of all.
    pub(super) fn last(&mut self) -> Option<String> {
        let word = self.operand()?.to_owned();
        self.is_at_end().then_some(word)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    /// All words from here on, options or not.
    pub(super) fn all(self) -> Option<Vec<String>> {
        let mut words = Vec::with_capacity(self.rest.len());
        for word in self.rest {
            words.push(word.to_str()?.to_owned());
        }
        Some(words)
    }

    fn plain_word(&mut self) -> Option<&'a str> {
        let (word, rest) = self.rest.split_first()?;
        let word = word.to_str().filter(|word| !word.is_empty() && !word.starts_with('-'))?;
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;
    use proptest::prelude::*;

    use super::super::{Verb, create, exec, lifecycle, list, parse};
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    /// What clap makes of a line, as text.
    fn by_clap<V: Verb + std::fmt::Debug>(args: &[OsString]) -> Option<String> {
        let matches = parse(args).ok()?;
        let global = Global::from_arg_matches(&matches).ok()?;
        let verb = V::from_arg_matches(matches.subcommand()?.1).ok()?;
        Some(format!("{global:?} {verb:?}"))
    }

    fn quickly<V: Verb + std::fmt::Debug>(args: &[OsString], name: &str) -> Option<String> {
        let mut words = Words::new(args.get(1..)?);
        let global = Global::quick(&mut words)?;
        (words.operand()? == name).then_some(())?;
        Some(format!("{global:?} {:?}", V::quick(words)?))
    }

    fn compare<V: Verb + std::fmt::Debug>(name: &str, args: &[OsString]) -> bool {
        let quick = quickly::<V>(args, name);
        if quick.is_some() {
            assert_eq!(quick, by_clap::<V>(args), "{args:?}");
        }
        quick.is_some()
    }

    fn compare_any(name: &str, args: &[OsString]) -> bool {
        match name {
            "create" => compare::<create::Create>(name, args),
            "run" => compare::<create::Run>(name, args),
            "exec" => compare::<exec::Exec>(name, args),
            "start" => compare::<lifecycle::Start>(name, args),
            "kill" => compare::<lifecycle::Kill>(name, args),
            "delete" => compare::<lifecycle::Delete>(name, args),
            "pause" => compare::<lifecycle::Pause>(name, args),
            "resume" => compare::<lifecycle::Resume>(name, args),
            _ => compare::<list::State>(name, args),
        }
    }

    const NAMES: [&str; 9] =
        ["create", "run", "exec", "start", "kill", "delete", "pause", "resume", "state"];

    #[test]
    fn what_clients_write_is_read_without_clap() {
        for (name, line) in [
            ("create", "--root /r --log /l --log-format json create --bundle /b --pid-file /p c"),
            ("create", "--systemd-cgroup create --bundle /b --pid-file /p --console-socket /s c"),
            ("create", "--root=/r create --bundle=/b --no-pivot --no-new-keyring c"),
            ("run", "run --bundle /b --detach c"),
            ("run", "run c"),
            ("start", "--root /r --log /l --log-format json start c"),
            ("state", "state c"),
            ("kill", "--log /l kill c 9"),
            ("kill", "kill --all c KILL"),
            ("delete", "delete --force c"),
            ("delete", "delete c"),
            ("exec", "exec --process /p.json --detach --pid-file /p c"),
            ("exec", "exec --env A=b --env C= --tty c sh -c true --bundle x"),
            ("pause", "pause c"),
        ] {
            let args =
                words(&[&["carob"], line.split(' ').collect::<Vec<_>>().as_slice()].concat());
            assert!(compare_any(name, &args), "{line}");
        }
    }

    #[test]
    fn everything_else_is_for_clap() {
        for line in [
            &["carob"] as &[&str],
            &["carob", "--version"],
            &["carob", "--root"],
            &["carob", "--root", "", "state", "c"],
            &["carob", "--root=", "state", "c"],
            &["carob", "--root", "-x", "state", "c"],
            &["carob", "--log-format", "xml", "state", "c"],
            &["carob", "state"],
            &["carob", "state", "--help"],
            &["carob", "state", "c", "d"],
            &["carob", "state", "--", "c"],
            &["carob", "delete", "c", "--force"],
            &["carob", "delete", "--force=maybe", "c"],
            &["carob", "run", "--image", "busybox"],
            &["carob", "run", "-d", "c"],
            &["carob", "create", "--preserve-fds", "many", "c"],
            &["carob", "list"],
            &["carob", "pod", "ps"],
        ] {
            assert!(read(&words(line)).is_none(), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn both_understand_the_same(
            verb in proptest::sample::select(&NAMES[..]),
            front in proptest::collection::vec(word(), 0..3),
            back in proptest::collection::vec(word(), 0..6),
        ) {
            let mut line = vec!["carob".to_owned()];
            line.extend(front);
            line.push(verb.to_owned());
            line.extend(back);
            let args: Vec<OsString> = line.iter().map(OsString::from).collect();
            compare_any(verb, &args);
        }
    }

    /// Options of all verbs, values and operands, and what only looks like them.
    fn word() -> impl Strategy<Value = String> {
        let options = "root log log-format debug systemd-cgroup rootless criu version bundle detach \
                       console-socket pidfd-socket pid-file no-pivot no-new-keyring preserve-fds keep \
                       no-subreaper image all force cwd env tty user process cap cgroup help nosuch";
        let options: Vec<&str> = options.split(' ').collect();
        const VALUES: &[&str] =
            &["c", "9", "json", "text", "auto", "A=b", "", "-", "--", "-x", "run", "=", "ä b"];
        let option = proptest::sample::select(options);
        let value = proptest::sample::select(VALUES);
        prop_oneof![
            3 => option.clone().prop_map(|name| format!("--{name}")),
            1 => (option, value.clone()).prop_map(|(name, value)| format!("--{name}={value}")),
            3 => value.prop_map(str::to_owned),
        ]
    }
}
