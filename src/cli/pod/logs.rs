//! `pod logs`.

use std::io::{self, IsTerminal};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::choice::{NamespaceChoice, bare_name};
use crate::cli::{Context, Verb, output};
use crate::error::{Error, Result};
use crate::log;
use crate::pod::follow::keep_supervised;
use crate::pod::logs::follow::{self, Shown, Waited};
use crate::pod::logs::instance::{self, Asked, Outlook, Which};
use crate::pod::logs::print::{Printer, Style};
use crate::pod::record::{ContainerRecord, ContainerState, PodRecord};
use crate::pod::restart::{Verdict, should_restart};
use crate::pod::store::StoredPod;

/// Print the logs of containers of a pod
///
/// Prints what the current instance of a container has written to stdout and stderr, or what the
/// last one has if none runs. Files that were rotated away are not read.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Logs {
    #[command(flatten)]
    namespace: NamespaceChoice,
    /// Container; by default the first one of the pod
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_containers")]
    container: Option<String>,
    /// Print the logs of all containers, those of init containers first
    #[arg(long)]
    all_containers: bool,
    /// Go on as lines come, until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Print the log of the instance before the current one
    #[arg(short, long)]
    previous: bool,
    /// Only so many lines from the end; -1 for all
    #[arg(long, value_name = "LINES", default_value = "-1", allow_negative_numbers = true)]
    tail: i64,
    /// Only lines younger than this: 5s, 2m, 3h
    #[arg(long, value_name = "DURATION", conflicts_with = "since_time")]
    since: Option<String>,
    /// Only lines from this time on: 2026-11-20T15:33:26Z
    #[arg(long, value_name = "TIME")]
    since_time: Option<Timestamp>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
    /// Begin each line with the pod and the container; on a terminal, --all-containers does so too
    #[arg(long)]
    prefix: bool,
    /// Stop after so many bytes of each container
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// Output format; json is one object a line
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = style_parser())]
    format: Style,
    /// The pod's name
    #[arg(value_name = "POD")]
    pod: String,
}

const EXAMPLES: &str = "\
Examples:
  carob pod logs web                             the first container of the pod
  carob pod logs web -c proxy --tail 20 -f       the last 20 lines of another, and what follows
  carob pod logs web --previous                  what it printed before it crashed
  carob pod logs web --all-containers --prefix --since 10m
  carob pod logs web --format json | jq -r 'select(.stream == \"stderr\") | .text'";

/// Text of one prefix each, by the number of the container.
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "31"];
/// Names the container that is meant if none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

fn style_parser() -> impl TypedValueParser<Value = Style> {
    PossibleValuesParser::new(["text", "json"]).map(|format| match format.as_str() {
        "json" => Style::Json,
        _ => Style::Text,
    })
}

impl Verb for Logs {
    fn run(mut self, context: &Context) -> Result<i32> {
        self.pod = bare_name(&self.pod)?.to_owned();
        let pod = self.namespace.find(context, &self.pod)?;
        let dirs = &pod.file.dirs;
        let logs = self.open(&pod)?;
        if self.follow {
            let look = |seen| {
                if seen == Waited::Silence {
                    keep_supervised(&context.runtime, dirs)?;
                }
                let now = StoredPod::read(&dirs.state)?;
                // Another pod may have got the name.
                Ok(now.filter(|now| now.file.dirs == *dirs).and_then(|now| now.record))
            };
            follow::follow(logs, dirs, io::stdout(), look, output::print_bytes)?;
        } else {
            for log in logs {
                log.show_rest(&mut output::print_bytes)?;
            }
        }
        Ok(0)
    }
}

impl Logs {
    /// The logs that are asked for. Of all containers those that have none are left out, with a
    /// warning, unless there would be nothing left.
    fn open(&self, pod: &StoredPod) -> Result<Vec<Shown>> {
        let none = PodSpec::default();
        let spec = pod.file.manifest.pod.spec.as_ref().unwrap_or(&none);
        let tail = self.tail_lines()?;
        let since = self.first_time(Timestamp::now())?;
        let mut logs = Vec::new();
        let mut failures = Vec::new();
        for (number, container) in self.containers(pod, spec)?.into_iter().enumerate() {
            let printer = self.printer(&container.name, number, since);
            let instance = self.instance(pod, spec, container);
            let log = instance.and_then(|instance| {
                Shown::open(&pod.file.dirs, (&container.name, instance), printer, tail)
            });
            match log {
                Ok(log) => logs.push(log),
                Err(error) => failures.push(error),
            }
        }
        if logs.is_empty() && !failures.is_empty() {
            return Err(failures.swap_remove(0));
        }
        failures.iter().for_each(log::warn);
        Ok(logs)
    }

    fn tail_lines(&self) -> Result<Option<u64>> {
        if self.tail < -1 {
            let tail = self.tail;
            return Err(Error::Invalid(format!(
                "--tail {tail}: must be greater than or equal to -1"
            )));
        }
        Ok(u64::try_from(self.tail).ok())
    }

    fn first_time(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let Some(since) = &self.since else { return Ok(self.since_time) };
        let since = humantime::parse_duration(since)
            .map_err(|error| Error::Invalid(format!("--since {since:?}: {error}")))?;
        Ok(Some(now.checked_sub(since).unwrap_or(Timestamp::MIN)))
    }

    fn containers<'a>(&self, pod: &StoredPod, spec: &'a PodSpec) -> Result<Vec<&'a Container>> {
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let find =
            |name: &str| init.iter().chain(&spec.containers).find(|known| known.name == name);
        if self.all_containers {
            return Ok(init.iter().chain(&spec.containers).collect());
        }
        if let Some(name) = &self.container {
            let unknown =
                || Error::Invalid(format!("container {name} is not valid for pod {}", self.pod));
            return Ok(vec![find(name).ok_or_else(unknown)?]);
        }
        let annotations = pod.file.manifest.pod.metadata.annotations.as_ref();
        let named = annotations.and_then(|all| find(all.get(DEFAULT_CONTAINER)?));
        if let Some(named) = named {
            return Ok(vec![named]);
        }
        let first: Vec<_> = spec.containers.first().into_iter().collect();
        if init.len() + spec.containers.len() > 1 {
            log::warn(defaulted(&first, spec, init));
        }
        Ok(first)
    }

    /// The restart count of the instance that is meant.
    fn instance(&self, pod: &StoredPod, spec: &PodSpec, container: &Container) -> Result<u32> {
        let idle_reason = match spec.init_containers.as_deref() {
            None | Some([]) => "ContainerCreating",
            Some(_) => "PodInitializing",
        };
        let record = pod.record.as_ref();
        let known = record.and_then(|record| {
            let mut all = record.init.iter().chain(&record.apps);
            all.find(|known| known.name == container.name).map(|known| (record, known))
        });
        let Some((record, known)) = known else {
            return Err(instance::never_started(&self.pod, &container.name, idle_reason));
        };
        let outlook = outlook(pod, record, known)?;
        let which = if self.previous { Which::Previous } else { Which::Current };
        let asked = Asked { pod: &self.pod, container: known, outlook, idle_reason };
        instance::choose(asked, which)
    }

    fn printer(&self, container: &str, number: usize, since: Option<Timestamp>) -> Printer {
        let style = match self.format {
            Style::Text if self.timestamps => Style::Timestamps,
            format => format,
        };
        let printer = Printer::new(container, style, since).with_limit(self.limit_bytes);
        let is_terminal = io::stdout().is_terminal();
        if !(self.prefix || self.all_containers && is_terminal) {
            return printer;
        }
        let prefix = format!("[pod/{}/{container}]", self.pod);
        let colour = COLOURS[number % COLOURS.len()];
        let wants_colours =
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        printer.with_prefix(match wants_colours {
            true => format!("\x1b[{colour}m{prefix}\x1b[0m "),
            false => prefix + " ",
        })
    }
}

/// kubectl's words for the choice it makes.
fn defaulted(chosen: &[&Container], spec: &PodSpec, init: &[Container]) -> String {
    let name = chosen.first().map_or("", |container| &container.name);
    let apps = spec.containers.iter().map(|container| container.name.clone());
    let init = init.iter().map(|container| format!("{} (init)", container.name));
    let all: Vec<String> = apps.chain(init).collect();
    format!("Defaulted container {name:?} out of: {}", all.join(", "))
}

/// Whether a container that has ended is to be started again.
fn outlook(pod: &StoredPod, record: &PodRecord, known: &ContainerRecord) -> Result<Outlook> {
    let ContainerState::Ended(ended) = &known.state else { return Ok(Outlook::Stays) };
    if record.stop.is_some() || record.ended.is_some() {
        return Ok(Outlook::Stays);
    }
    let rules = pod.file.rules()?;
    let verdict = rules.container(&known.name).map(|rules| should_restart(rules, ended));
    Ok(match verdict {
        Some(Verdict::Restart | Verdict::RestartAll) => Outlook::Restarts,
        Some(Verdict::Stay) | None => Outlook::Stays,
    })
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;
    use crate::pod::manifest::{Manifest, Objects};
    use crate::pod::store::{PodDirs, PodFile};

    fn parse(line: &str) -> Result<Logs> {
        let command = Logs::augment_args(clap::Command::new("logs"));
        let matches = command.try_get_matches_from(line.split(' '));
        let matches = matches.map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Logs::from_arg_matches(&matches).unwrap())
    }

    fn container(name: &str, restart_policy: Option<&str>) -> Container {
        let restart_policy = restart_policy.map(str::to_owned);
        Container { name: name.into(), restart_policy, ..Container::default() }
    }

    fn pod(annotation: Option<&str>) -> StoredPod {
        let mut manifest =
            Manifest { pod: Default::default(), objects: Objects::default(), left_out: Vec::new() };
        manifest.pod.spec = Some(PodSpec {
            init_containers: Some(vec![container("setup", None)]),
            containers: vec![container("web", None), container("proxy", None)],
            ..PodSpec::default()
        });
        let annotation = annotation.map(|name| (DEFAULT_CONTAINER.to_owned(), name.to_owned()));
        manifest.pod.metadata.annotations = Some(annotation.into_iter().collect());
        let nowhere = std::path::PathBuf::from("/nonexistent");
        let [state, data, logs, cgroup] = [(); 4].map(|()| nowhere.clone());
        let dirs = PodDirs { state, data, logs, cgroup };
        StoredPod { file: PodFile { manifest, dirs, network: Default::default() }, record: None }
    }

    #[test]
    fn the_containers_are_the_ones_that_kubectl_takes() {
        for (line, annotation, expected) in [
            ("logs p", None, "web"),
            ("logs p", Some("proxy"), "proxy"),
            ("logs p", Some("gone"), "web"),
            ("logs p -c setup", None, "setup"),
            ("logs p --all-containers", None, "setup web proxy"),
            ("logs p -c gone", None, "container gone is not valid for pod p"),
        ] {
            let (logs, pod) = (parse(line).unwrap(), pod(annotation));
            let spec = pod.file.manifest.pod.spec.clone().unwrap();
            let found = match logs.containers(&pod, &spec) {
                Ok(all) => all.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(" "),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{line}");
        }
        let spec = pod(None).file.manifest.pod.spec.unwrap();
        assert_eq!(
            defaulted(&[&spec.containers[0]], &spec, spec.init_containers.as_deref().unwrap()),
            "Defaulted container \"web\" out of: web, proxy, setup (init)"
        );
    }

    #[test]
    fn a_pod_without_record_has_not_started() {
        let error = parse("logs p").unwrap().open(&pod(None)).unwrap_err().to_string();
        assert_eq!(error, r#"container "web" in pod "p" is waiting to start: PodInitializing"#);
    }

    #[test]
    fn arguments_are_checked() {
        let now = "2026-11-20T15:00:00Z".parse().unwrap();
        let logs = parse("logs --tail=5 --since 1h30m p").unwrap();
        assert_eq!(logs.tail_lines().unwrap(), Some(5));
        assert_eq!(logs.first_time(now).unwrap(), "2026-11-20T13:30:00Z".parse().ok());
        let logs = parse("logs --tail -1 --since-time 2026-11-20T15:33:26Z p").unwrap();
        assert_eq!(logs.tail_lines().unwrap(), None);
        assert_eq!(logs.first_time(now).unwrap(), "2026-11-20T15:33:26Z".parse().ok());
        assert!(parse("logs --tail -2 p").unwrap().tail_lines().is_err());
        assert!(parse("logs --since soon p").unwrap().first_time(now).is_err());
        for line in [
            "logs",
            "logs p -c web --all-containers",
            "logs --since 1s --since-time 2026-11-20T15:33:26Z p",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
