//! Command lines through clap's tree; no process is started. Most are what engines were seen to
//! write: containerd's shims, conmon, Podman, CRI-O, Docker, buildkit, buildah, go-runc.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::*;
use crate::container::Rootless;
use crate::{
    container::{
        Attach, CreateOptions, ExecArgs, ExecOptions, ExecProcess, Force, Keyring, KillTarget,
        RootSwitch, RunOptions,
    },
    sys::signal::Signal,
};

/// A blank separates arguments.
fn parse(line: &str) -> std::result::Result<ArgMatches, clap::Error> {
    let args = line.split(' ').map(OsString::from).collect();
    super::parse(&argv::from_go_style(args))
}

/// The arguments of the verb in `line`, which must be `name`.
fn verb<V: Verb + std::fmt::Debug>(line: &str, name: &str) -> V {
    let matches = parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    let (found, arguments) = matches.subcommand().unwrap();
    assert_eq!(found, name, "{line}");
    let verb = V::from_arg_matches(arguments).unwrap();
    let words = argv::from_go_style(line.split(' ').map(OsString::from).collect());
    if let Some((_, rest)) = after_global(&words).filter(|(_, rest)| rest[0] == name)
        && let Some(quick) = V::quick(Words::new(&rest[1..]))
    {
        same(quick, &verb, line);
    }
    verb
}

/// What [`quick`] makes of the options in front of the verb, and the words from the verb on.
fn after_global(words: &[OsString]) -> Option<(Global, &[OsString])> {
    let mut left = Words::new(&words[1..]);
    let global = Global::quick(&mut left)?;
    let rest = words.len() - left.len();
    (rest < words.len()).then(|| (global, &words[rest..]))
}

fn global(line: &str) -> Global {
    let global =
        Global::from_arg_matches(&parse(line).unwrap_or_else(|e| panic!("{line}: {e}"))).unwrap();
    let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    if let Some((quick, _)) = after_global(&words) {
        same(quick, &global, line);
    }
    global
}

fn path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text))
}

fn same(actual: impl std::fmt::Debug, expected: impl std::fmt::Debug, line: &str) {
    assert_eq!(format!("{actual:#?}"), format!("{expected:#?}"), "{line}");
}

fn create(id: &str, bundle: &str) -> CreateOptions {
    CreateOptions {
        id: id.into(),
        bundle: bundle.into(),
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        root_switch: RootSwitch::Pivot,
        keyring: Keyring::New,
        preserve_fds: 0,
    }
}

fn run(id: &str, bundle: &str) -> RunOptions {
    RunOptions {
        create: create(id, bundle),
        attach: Attach::Foreground,
        keep: false,
        no_subreaper: false,
    }
}

fn exec(id: &str, process: ExecProcess) -> ExecOptions {
    ExecOptions {
        id: id.into(),
        process,
        attach: Attach::Foreground,
        console_socket: None,
        pidfd_socket: None,
        pid_file: None,
        preserve_fds: 0,
        ignore_paused: false,
        sub_cgroups: Vec::new(),
        no_subreaper: false,
    }
}

fn command(args: &[&str]) -> ExecArgs {
    ExecArgs { args: args.iter().map(ToString::to_string).collect(), ..ExecArgs::default() }
}

#[test]
fn the_tree_is_consistent() {
    let mut tree = tree();
    tree.build();
    tree.debug_assert();
}

#[test]
fn create_lines() {
    let table = [
        ("carob create c1", create("c1", ".")),
        (
            // containerd-shim-runc-v2
            "carob --root /run/containerd/runc/k8s.io --log B/log.json --log-format json create \
             --bundle B --pid-file B/init.pid --console-socket /tmp/pty1/pty.sock --no-pivot \
             --no-new-keyring ID",
            CreateOptions {
                pid_file: path("B/init.pid"),
                console_socket: path("/tmp/pty1/pty.sock"),
                root_switch: RootSwitch::Move,
                keyring: Keyring::Inherit,
                ..create("ID", "B")
            },
        ),
        (
            // rust-extensions
            "carob --root R/ns --log B/log.json --log-format json --systemd-cgroup create \
             --bundle B --pid-file B/init.pid --detach ID",
            CreateOptions { pid_file: path("B/init.pid"), ..create("ID", "B") },
        ),
        (
            // Podman through conmon
            "carob --log-format=json --log L create --bundle U --pid-file P --no-pivot \
             --preserve-fds 2 --console-socket /tmp/conmon-term.X ID",
            CreateOptions {
                pid_file: path("P"),
                console_socket: path("/tmp/conmon-term.X"),
                root_switch: RootSwitch::Move,
                preserve_fds: 2,
                ..create("ID", "U")
            },
        ),
        (
            // conmon-rs
            "carob --root=R --systemd-cgroup --root=R --systemd-cgroup create --bundle B \
             --pid-file P --console-socket=S ID",
            CreateOptions { pid_file: path("P"), console_socket: path("S"), ..create("ID", "B") },
        ),
        (
            "carob create -b=B --pidfd-socket S --preserve-fds=3 ID",
            CreateOptions { pidfd_socket: path("S"), preserve_fds: 3, ..create("ID", "B") },
        ),
    ];
    for (line, expected) in table {
        same(verb::<create::Create>(line, "create").options(), expected, line);
    }
}

#[test]
fn run_lines() {
    let table = [
        // buildkit
        (
            "carob --log R/runc-log.json --log-format json run --bundle D --no-pivot --keep ID",
            RunOptions {
                create: CreateOptions { root_switch: RootSwitch::Move, ..create("ID", "D") },
                keep: true,
                ..run("ID", "D")
            },
        ),
        (
            "carob run -d -b B --no-subreaper ID",
            RunOptions { attach: Attach::Detach, no_subreaper: true, ..run("ID", "B") },
        ),
        (
            "carob run -no-subreaper -bundle B --detach=true ID",
            RunOptions { attach: Attach::Detach, no_subreaper: true, ..run("ID", "B") },
        ),
        // The last of two wins, also after the id.
        ("carob run --bundle A ID --bundle B", run("ID", "B")),
    ];
    for (line, expected) in table {
        same(verb::<create::Run>(line, "run").options(), expected, line);
    }
}

#[test]
fn exec_lines_with_a_process_file() {
    let file = |f: &str| ExecProcess::File(f.into());
    let table = [
        (
            // containerd-shim-runc-v2
            "carob --root R exec --process /tmp/runc-process1 --console-socket S --detach \
             --pid-file B/x.pid ID",
            ExecOptions {
                attach: Attach::Detach,
                console_socket: path("S"),
                pid_file: path("B/x.pid"),
                ..exec("ID", file("/tmp/runc-process1"))
            },
        ),
        (
            // Podman through conmon 2.1
            "carob exec --pid-file F --process P --detach --tty --preserve-fds 1 \
             --console-socket S ID",
            ExecOptions {
                attach: Attach::Detach,
                console_socket: path("S"),
                pid_file: path("F"),
                preserve_fds: 1,
                ..exec("ID", file("P"))
            },
        ),
        // CRI-O, streaming
        ("carob --root R --systemd-cgroup exec --process F ID", exec("ID", file("F"))),
        (
            // buildkit
            "carob exec --process F --pid-file T ID",
            ExecOptions { pid_file: path("T"), ..exec("ID", file("F")) },
        ),
    ];
    for (line, expected) in table {
        same(verb::<exec::Exec>(line, "exec").options().unwrap(), expected, line);
    }
}

#[test]
fn exec_lines_with_a_command() {
    let args = |args| ExecProcess::Args(Box::new(args));
    let table = [
        (
            // conmon-rs
            "carob exec -d --console-socket=S --tty --pid-file=P ID cmd -x --tty -- -d",
            ExecOptions {
                attach: Attach::Detach,
                console_socket: path("S"),
                pid_file: path("P"),
                ..exec(
                    "ID",
                    args(ExecArgs { tty: true, ..command(&["cmd", "-x", "--tty", "--", "-d"]) }),
                )
            },
        ),
        ("carob exec ID ls -la", exec("ID", args(command(&["ls", "-la"])))),
        ("carob exec ID -e -t", exec("ID", args(command(&["-e", "-t"])))),
        ("carob exec ID -- ls -h", exec("ID", args(command(&["ls", "-h"])))),
        ("carob exec -- ID ls", exec("ID", args(command(&["ls"])))),
        (
            "carob exec --cwd /w -e A=1 --env B=2=3 -u 1:2 -g 3 -g 4 --additional-gids 5 \
             --process-label L --apparmor P --no-new-privs -c CAP_KILL --cap CAP_CHOWN \
             --cgroup a --cgroup cpu:b --ignore-paused --pidfd-socket S ID sh",
            ExecOptions {
                ignore_paused: true,
                pidfd_socket: path("S"),
                sub_cgroups: vec!["a".into(), "cpu:b".into()],
                ..exec(
                    "ID",
                    args(ExecArgs {
                        cwd: path("/w"),
                        env: vec!["A=1".into(), "B=2=3".into()],
                        user: Some("1:2".into()),
                        additional_gids: vec![3, 4, 5],
                        process_label: Some("L".into()),
                        apparmor: Some("P".into()),
                        no_new_privs: true,
                        caps: vec!["CAP_KILL".into(), "CAP_CHOWN".into()],
                        ..command(&["sh"])
                    }),
                )
            },
        ),
    ];
    for (line, expected) in table {
        same(verb::<exec::Exec>(line, "exec").options().unwrap(), expected, line);
    }
    let error = verb::<exec::Exec>("carob exec ID", "exec").options().unwrap_err().to_string();
    assert!(error.contains("--process"), "{error}");
}

#[test]
fn kill_and_delete_lines() {
    let kills = [
        ("carob kill ID", Signal::TERM, KillTarget::Init),
        ("carob kill ID 9", Signal::KILL, KillTarget::Init),
        ("carob kill ID KILL", Signal::KILL, KillTarget::Init),
        ("carob kill --all ID 9", Signal::KILL, KillTarget::All),
        ("carob kill -a ID SIGKILL", Signal::KILL, KillTarget::All),
    ];
    for (line, signal, target) in kills {
        let expected = ("ID", signal, target);
        same(verb::<lifecycle::Kill>(line, "kill").options().unwrap(), expected, line);
    }
    let unknown = verb::<lifecycle::Kill>("carob kill ID NOSUCH", "kill").options().unwrap_err();
    assert_eq!(unknown.to_string(), "unknown signal \"NOSUCH\"");

    for (line, force) in [
        ("carob delete ID", Force::No),
        ("carob delete --force ID", Force::Yes),
        ("carob delete -f ID", Force::Yes),
    ] {
        same(verb::<lifecycle::Delete>(line, "delete").options(), ("ID", force), line);
    }
}

#[test]
fn ps_lines() {
    let table = [
        ("carob ps --format json ID", list::Format::Json, "-ef"),
        ("carob ps -f json ID", list::Format::Json, "-ef"),
        ("carob ps --format table ID -o pid,args", list::Format::Table, "-o pid,args"),
        ("carob ps ID -ef", list::Format::Table, "-ef"),
        ("carob ps ID -f", list::Format::Table, "-f"),
    ];
    for (line, format, options) in table {
        let options: Vec<_> = options.split(' ').collect();
        same(verb::<ps::Ps>(line, "ps").options(), ("ID", format, options), line);
    }
}

#[test]
fn events_lines() {
    let table = [
        ("carob events --stats ID", events::Mode::Once),
        ("carob events ID", events::Mode::Every(Duration::from_secs(5))),
        ("carob events --interval=2s ID", events::Mode::Every(Duration::from_secs(2))),
        ("carob events --interval 100ms ID", events::Mode::Every(Duration::from_millis(100))),
        ("carob events --interval 1m30s ID", events::Mode::Every(Duration::from_secs(90))),
        ("carob events --interval 1h0m0s ID", events::Mode::Every(Duration::from_secs(3600))),
    ];
    for (line, mode) in table {
        same(verb::<events::Events>(line, "events").options().unwrap(), ("ID", mode), line);
    }
    for interval in ["0s", "5", "-1s", "soon", ""] {
        let line = format!("carob events --interval={interval} ID");
        let error = verb::<events::Events>(&line, "events").options().unwrap_err().to_string();
        assert!(error.starts_with("--interval"), "{error}");
    }
}

#[test]
fn update_lines() {
    let table = [
        ("carob update ID", "{}"),
        (
            "carob update --memory 512m --memory-swap -1 ID",
            r#"{"memory":{"limit":536870912,"swap":-1}}"#,
        ),
        ("carob update --memory-reservation=1k ID", r#"{"memory":{"reservation":1024}}"#),
        ("carob update --pids-limit -1 ID", r#"{"pids":{"limit":-1}}"#),
        ("carob update --cpu-quota -1 --cpu-period 5 ID", r#"{"cpu":{"quota":-1,"period":5}}"#),
        (
            "carob update --cpu-share 2 --cpu-burst 3 --cpu-idle 1 ID",
            r#"{"cpu":{"shares":2,"burst":3,"idle":1}}"#,
        ),
        (
            "carob update --cpu-rt-period 2 --cpu-rt-runtime 3 ID",
            r#"{"cpu":{"realtimePeriod":2,"realtimeRuntime":3}}"#,
        ),
        (
            "carob update --cpuset-cpus 0-1 --cpuset-mems 0 ID",
            r#"{"cpu":{"cpus":"0-1","mems":"0"}}"#,
        ),
        ("carob update --blkio-weight 10 --kernel-memory 1 ID", r#"{"blockIO":{"weight":10}}"#),
        ("carob update --cpu-idle 0 --cpu-share 0 ID", r#"{"cpu":{"idle":0}}"#),
        ("carob update --resources /dev/null/x ID", ""),
    ];
    for (line, expected) in table {
        let change = verb::<update::Update>(line, "update").change();
        if expected.is_empty() {
            assert!(
                change.unwrap_err().to_string().starts_with("open resources file /dev/null/x: "),
                "{line}"
            );
            continue;
        }
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(serde_json::to_value(change.unwrap()).unwrap(), expected, "{line}");
    }
    for (line, text) in [
        ("carob update --memory x ID", "--memory \"x\": want bytes"),
        ("carob update --l3-cache-schema x ID", "Intel RDT"),
    ] {
        let error = verb::<update::Update>(line, "update").change().unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn lines_of_the_remaining_verbs() {
    for line in [
        "carob start ID",
        "carob --root R state ID",
        "carob list --format=json",
        "carob list -f json -q",
        "carob list --quiet",
        "carob pause ID",
        "carob resume ID",
        "carob --root R update --resources - ID",
        "carob update --resources=- ID",
        "carob update --resources=/var/tmp/podman1 ID",
        "carob update -r - ID",
        "carob features",
        "carob --version",
        "carob -v",
        "carob spec --bundle B --rootless",
        "carob --criu /usr/sbin/criu list",
        "carob completion bash",
        "carob man DIR",
        "carob checkpoint --image-path P --work-path W --leave-running ID",
        "carob checkpoint --help",
        "carob restore --image-path P --detach -no-subreaper --bundle B ID",
        "carob restore --lsm-mount-context",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).map_err(|e| e.to_string()));
    }
}

#[test]
fn global_options() {
    let options = global("carob --root=/a --systemd-cgroup --root /b --systemd-cgroup list");
    assert_eq!(options.root, path("/b"));
    for (line, expected) in [
        ("carob list", Rootless::Auto),
        ("carob --rootless true list", Rootless::True),
        ("carob --rootless=false list", Rootless::False),
        ("carob --rootless auto list", Rootless::Auto),
    ] {
        assert_eq!(global(line).rootless, expected, "{line}");
    }
}

#[test]
fn usage_errors_go_to_stderr() {
    for line in [
        "carob --nosuch list",
        "carob nosuch",
        "carob --log-format xml list",
        "carob --rootless maybe list",
        "carob create",
        "carob create --nosuch ID",
        "carob create --preserve-fds -1 ID",
        "carob exec",
        "carob exec --nosuch ID ls",
        "carob start",
        "carob start a b",
        "carob kill ID 9 9",
        "carob list ID",
        "carob list --format yaml",
        "carob update --cpu-quota x ID",
        "carob completion tcsh",
    ] {
        let error = parse(line).map(|_| ()).unwrap_err();
        assert!(error.use_stderr(), "{line}");
    }
    // clap's own exit status would be 2.
    assert_eq!(usage(&parse("carob --nosuch list").unwrap_err()), 1);
}

#[test]
fn failures_have_the_exit_codes_of_the_contract() {
    for row in VERBS {
        let expected = if row.name == "exec" { (255, "exec failed: ") } else { (1, "") };
        let failure = (row.failure)(&clap::ArgMatches::default());
        assert_eq!((failure.code, failure.prefix), expected, "{}", row.name);
    }
    let error = Error::NotFound { id: "c1".into() };
    assert_eq!(report(&error, exec::Exec::FAILURE), 255);
}

#[test]
fn every_verb_has_help_with_an_example() {
    let mut names = BTreeSet::new();
    for row in VERBS {
        assert!(names.insert(row.name), "{} is there twice", row.name);
        if ["checkpoint", "restore"].contains(&row.name) {
            continue;
        }
        let help = parse(&format!("carob {} --help", row.name)).map(|_| ()).unwrap_err();
        assert!(!help.use_stderr());
        let text = help.to_string();
        assert!(text.contains(&format!("\n  carob {}", row.name)), "{text}");
        assert!(text.contains("Examples:\n"), "{text}");
    }
}

#[test]
fn a_part_of_the_tree_means_what_the_whole_means() {
    let lines: &[&[&str]] = &[
        &["carob"],
        &["carob", "--version"],
        &["carob", "run", "c"],
        &["carob", "--root", "list", "state", "run"],
        &["carob", "exec", "run", "delete", "--force"],
        &["carob", "--root"],
        &["carob", "rnu", "run"],
        &["carob", "run", "--help"],
        &["carob", "help"],
        &["carob", "help", "run"],
        &["carob", "pod"],
        &["carob", "pod", "ps"],
    ];
    for line in lines {
        let args: Vec<OsString> = line.iter().map(OsString::from).collect();
        let shown = |matches: clap::error::Result<ArgMatches>| match matches {
            Ok(matches) => without_lists_of_verbs(&format!("{matches:?}")),
            Err(error) => error.render().to_string(),
        };
        let whole = shown(tree().try_get_matches_from(&args));
        assert_eq!(shown(super::parse(&args)), whole, "{line:?}");
    }
}

/// Matches remember what else there would have been.
fn without_lists_of_verbs(matches: &str) -> String {
    let mut parts = matches.split("valid_subcommands: [");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(']').map_or("", |(_, rest)| rest))
}
