//! `carob pod sandbox`: namespaces, cgroup and files of a pod, for containers of any runtime.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command, ValueEnum};
use oci_spec::runtime::LinuxResources;

use super::super::output::{Format, KUBECTL, Table};
use super::super::{Context, Failure, Row, Verb, output, row};
use super::plugins::PluginChoice;
use crate::error::{Error, OsContext, Result};
use crate::oci::load;
use crate::pod::sandbox::standalone::{self, Network, Options, Pid, Report};
use crate::pod::store;
use crate::sys::self_exe;

/// `carob pod sandbox` in the table of the pod verbs.
pub(super) const ROW: Row = Row {
    name: "sandbox",
    about: "",
    arguments,
    quick: |_| None,
    run,
    failure: |_| Failure { code: 1, prefix: "" },
};

const VERBS: &[Row] = &[
    row::<Create>("create", "Make a sandbox and start it"),
    row::<Start>("start", "Start a sandbox that was stopped"),
    row::<Stop>("stop", "Stop a sandbox and all in its cgroup"),
    row::<Remove>("rm", "Stop a sandbox and remove all of it"),
    row::<List>("ls", "List sandboxes"),
    row::<Inspect>("inspect", "Print what containers need to join a sandbox"),
];

fn arguments(sandbox: Command) -> Command {
    let verbs =
        VERBS.iter().map(|row| Command::new(row.name).about(row.about).defer(row.arguments));
    sandbox
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .subcommands(verbs)
        .after_help(EXAMPLES)
        .arg_required_else_help(true)
}

const EXAMPLES: &str = "\
Examples:
  carob pod sandbox create web
  carob pod sandbox inspect web
  carob pod sandbox rm web";

fn run(matches: &mut ArgMatches, context: &Context) -> Result<i32> {
    let missing = || Error::Invalid("pod sandbox: a verb is missing; see --help".into());
    let (name, mut arguments) = matches.remove_subcommand().ok_or_else(missing)?;
    let row = VERBS.iter().find(|row| row.name == name).ok_or_else(missing)?;
    (row.run)(&mut arguments, context)
}

/// Make a sandbox and start it; prints what containers need to join it, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = CREATE_EXAMPLES)]
struct Create {
    /// Name of the sandbox
    #[arg(value_name = "NAME")]
    name: String,
    /// none: a loopback device; host; cni: the first CNI configuration or carob's own; or a
    /// configuration's name
    #[arg(long, value_name = "none|host|cni|NAME", default_value = "none")]
    network: String,
    #[command(flatten)]
    plugins: PluginChoice,
    /// Where it is kept what plugins have to undo: beyond a reboot
    #[arg(long, value_name = "DIR", default_value = store::DATA_ROOT)]
    data_root: PathBuf,
    /// Who has which pid namespace: each container its own, one for all, or the host's
    #[arg(long, value_enum, default_value_t = PidChoice::Container)]
    pid: PidChoice,
    /// IPC and /dev/shm of its own, or the host's
    #[arg(long, value_enum, default_value_t = Ipc::Pod)]
    ipc: Ipc,
    /// A user namespace: 65536 host ids that no other sandbox or pod has
    #[arg(long)]
    userns: bool,
    /// Host name [default: NAME]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Kernel parameter of its namespaces; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// Cgroup of the pod [default: /carob/sandbox-NAME]
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Limits of that cgroup: a JSON file as `linux.resources` of config.json, or stdin for `-`
    #[arg(long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Line of /etc/hosts; may be repeated
    #[arg(long, value_name = "IP=NAME[,NAME]")]
    hosts_entry: Vec<String>,
    /// Name server in resolv.conf, instead of the host's; may be repeated
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
    /// Search domain in resolv.conf; may be repeated
    #[arg(long, value_name = "DOMAIN", requires = "dns")]
    dns_search: Vec<String>,
    /// Option in resolv.conf; may be repeated
    #[arg(long, value_name = "OPTION", requires = "dns")]
    dns_option: Vec<String>,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  carob pod sandbox create web
  carob pod sandbox create --network cni web | jq -r .ips[]
  carob pod sandbox create --pid pod --hosts-entry 10.0.0.7=db,db.local web
  carob pod sandbox create --sysctl net.ipv4.ip_unprivileged_port_start=0 web |
    jq -r .namespaces.network";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ipc {
    Pod,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PidChoice {
    Container,
    Pod,
    Host,
}

impl Create {
    fn options(&self) -> Result<Options> {
        let resources = self.resources.as_deref().map(read_resources).transpose()?;
        Ok(Options {
            host_network: self.network == "host",
            network: self.network(),
            host_ipc: self.ipc == Ipc::Host,
            pid: match self.pid {
                PidChoice::Container => Pid::Container,
                PidChoice::Pod => Pid::Pod,
                PidChoice::Host => Pid::Host,
            },
            user_namespace: self.userns,
            hostname: self.hostname.clone(),
            sysctls: self.sysctl.iter().map(|text| key_value(text)).collect::<Result<_>>()?,
            cgroup: self.cgroup.clone(),
            resources,
            hosts: self.hosts_entry.iter().map(|text| host(text)).collect::<Result<_>>()?,
            resolv_conf: self.resolv_conf()?,
        })
    }

    fn network(&self) -> Option<Network> {
        let name = match self.network.as_str() {
            "none" | "host" => return None,
            "cni" => None,
            name => Some(name.to_owned()),
        };
        let data_root = std::path::absolute(&self.data_root);
        Some(Network {
            name,
            sources: self.plugins.sources(),
            data_root: data_root.unwrap_or_else(|_| self.data_root.clone()),
        })
    }

    fn resolv_conf(&self) -> Result<Option<String>> {
        if self.dns.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        for (word, list) in [("search", &self.dns_search), ("options", &self.dns_option)] {
            for item in list {
                plain(&format!("--dns-{}", word.trim_end_matches('s')), item)?;
            }
            if !list.is_empty() {
                text.push_str(&format!("{word} {}\n", list.join(" ")));
            }
        }
        text.extend(self.dns.iter().map(|address| format!("nameserver {address}\n")));
        Ok(Some(text))
    }
}

fn read_resources(path: &Path) -> Result<LinuxResources> {
    if path == Path::new("-") {
        return load::load_resources(std::io::stdin(), "stdin");
    }
    let file = File::open(path).os("open", || path.display())?;
    load::load_resources(file, &path.display().to_string())
}

/// A word of a file that is read by lines and words.
fn plain(option: &str, word: &str) -> Result<()> {
    if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::Invalid(format!("{option} {word:?}: must be one word")));
    }
    Ok(())
}

fn key_value(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::Invalid(format!("--sysctl {text:?}: must be KEY=VALUE"))),
    }
}

fn host(text: &str) -> Result<(String, Vec<String>)> {
    let bad = || Error::Invalid(format!("--hosts-entry {text:?}: must be IP=NAME[,NAME]"));
    let (address, names) = text.split_once('=').ok_or_else(bad)?;
    let Ok(address) = address.parse::<IpAddr>() else { return Err(bad()) };
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    names.iter().try_for_each(|name| plain("--hosts-entry", name))?;
    Ok((address.to_string(), names))
}

impl Verb for Create {
    fn run(self, context: &Context) -> Result<i32> {
        let _protected = self_exe::protect(3)?;
        let options = self.options()?;
        output::print_json(&standalone::create(&context.runtime, &self.name, options)?)?;
        Ok(0)
    }
}

/// List sandboxes
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
struct List {
    /// Output format
    #[arg(short, visible_short_alias = 'o', long, value_name = "FORMAT", default_value = "table",
          value_parser = Format::parser(&["table", "name", "json", "yaml"]))]
    format: Format,
}

const LIST_EXAMPLES: &str = "\
Examples:
  carob pod sandbox ls
  carob pod sandbox ls --format json | jq -r '.[].cgroup'";

impl Verb for List {
    fn run(self, context: &Context) -> Result<i32> {
        let all = standalone::list(&context.runtime)?;
        match self.format {
            Format::Json | Format::Yaml => output::print_object(self.format, &all)?,
            Format::Name => {
                output::print(
                    &all.iter().map(|one| format!("{}\n", one.name)).collect::<String>(),
                )?;
            }
            Format::Table | Format::Wide => output::print(&table(&all))?,
        }
        Ok(0)
    }
}

fn table(all: &[Report]) -> String {
    let mut table = Table::new(KUBECTL, ["NAME", "STATUS", "PID", "NETWORK", "IP", "CGROUP"]);
    for one in all {
        let none = || "-".to_owned();
        let own = one.namespaces.contains_key("network");
        let pid = if one.pid == 0 { none() } else { one.pid.to_string() };
        let network = match &one.network {
            Some(name) => name.clone(),
            None if own => "none".to_owned(),
            None if one.pid == 0 => none(),
            None => "host".to_owned(),
        };
        let ips = if one.ips.is_empty() { none() } else { one.ips.join(",") };
        let cgroup = one.cgroup.display().to_string();
        table.push([one.name.clone(), one.status.to_owned(), pid, network, ips, cgroup]);
    }
    table.take()
}

/// Start a sandbox that was stopped, with the same host ids; one that runs is left alone
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carob pod sandbox start web")]
struct Start {
    /// Name of the sandbox
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for Start {
    fn run(self, context: &Context) -> Result<i32> {
        let _protected = self_exe::protect(3)?;
        output::print_json(&standalone::start(&context.runtime, &self.name)?)?;
        Ok(0)
    }
}

/// Stop a sandbox: its namespaces, its /dev/shm, and every process in its cgroup
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carob pod sandbox stop web")]
struct Stop {
    /// Name of the sandbox
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for Stop {
    fn run(self, context: &Context) -> Result<i32> {
        standalone::stop(&context.runtime, &self.name)?;
        Ok(0)
    }
}

/// Stop a sandbox and remove all of it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carob pod sandbox rm web")]
struct Remove {
    /// Name of the sandbox
    #[arg(value_name = "NAME")]
    name: String,
}

impl Verb for Remove {
    fn run(self, context: &Context) -> Result<i32> {
        standalone::remove(&context.runtime, &self.name)?;
        Ok(0)
    }
}

/// Print what containers need to join a sandbox, as JSON
#[derive(Debug, clap::Args)]
#[command(after_help = INSPECT_EXAMPLES)]
struct Inspect {
    /// Name of the sandbox
    #[arg(value_name = "NAME")]
    name: String,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  carob pod sandbox inspect web
  nsenter --net=$(carob pod sandbox inspect web | jq -r .namespaces.network) ip address";

impl Verb for Inspect {
    fn run(self, context: &Context) -> Result<i32> {
        output::print_json(&standalone::inspect(&context.runtime, &self.name)?)?;
        Ok(0)
    }
}
