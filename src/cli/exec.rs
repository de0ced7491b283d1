//! `exec`.

use std::path::PathBuf;

use super::quick::Words;
use super::{Context, Failure, Verb};
use crate::{
    container::{Attach, ExecArgs, ExecOptions, ExecProcess},
    error::{Error, Result},
};

/// Run another process in a container and exit with its status (128+n after signal n, 255 if it
/// could not be run)
#[derive(Debug, Default, clap::Args)]
#[command(
    override_usage = "carob exec [OPTIONS] ID COMMAND [ARG]...\n       \
                      carob exec [OPTIONS] --process FILE ID",
    after_help = EXAMPLES
)]
pub(super) struct Exec {
    /// Unix socket that receives the master of the process's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Add or replace an environment variable; repeatable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// User and group, as numbers
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Add a supplementary group; repeatable
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Take the process from a JSON file with an OCI process object
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for the process
    #[arg(short, long)]
    detach: bool,
    /// File to write the pid of the process to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Let the process gain no privileges through execve
    #[arg(long)]
    no_new_privs: bool,
    /// Add a capability; repeatable
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// Pass N more file descriptors from 3 on, besides those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
    /// Run in an existing sub-cgroup of the container's; repeatable, once per v1 controller
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Do not refuse a paused container; the process runs once it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Do not adopt orphans of the process
    #[arg(long, hide = true)]
    no_subreaper: bool,
    // One positional: after its first value, the id, clap takes everything as it is.
    /// The container's id, then the command and its arguments as they are
    #[arg(value_name = "ID [COMMAND...]", required = true, num_args = 1.., trailing_var_arg = true)]
    id_and_command: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  carob exec web ps -ef
  carob exec --tty --env TERM=$TERM --user 1000:1000 web sh
  carob exec --detach --process process.json --pid-file ps.pid web";

impl Exec {
    /// What the command line asks for.
    ///
    /// # Errors
    /// If there is neither a command nor `--process`.
    pub(super) fn options(self) -> Result<ExecOptions> {
        let mut words = self.id_and_command.into_iter();
        let id = words.next().unwrap_or_default();
        let mut args: Vec<String> = words.collect();
        // `exec ID -- COMMAND`, a habit from other tools.
        if args.first().is_some_and(|first| first == "--") {
            args.remove(0);
        }
        let process = match self.process {
            Some(file) => ExecProcess::File(file),
            None if args.is_empty() => {
                return Err(Error::Invalid("neither a command nor --process is given".into()));
            }
            None => ExecProcess::Args(Box::new(ExecArgs {
                args,
                cwd: self.cwd,
                env: self.env,
                user: self.user,
                additional_gids: self.additional_gids,
                tty: self.tty,
                apparmor: self.apparmor,
                process_label: self.process_label,
                caps: self.cap,
                no_new_privs: self.no_new_privs,
            })),
        };
        Ok(ExecOptions {
            id,
            process,
            attach: if self.detach { Attach::Detach } else { Attach::Foreground },
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            pid_file: self.pid_file,
            preserve_fds: self.preserve_fds,
            ignore_paused: self.ignore_paused,
            sub_cgroups: self.cgroup,
            no_subreaper: self.no_subreaper,
        })
    }
}

impl Verb for Exec {
    /// Callers tell a failed exec from the command's own status by it.
    const FAILURE: Failure = Failure { code: 255, prefix: "exec failed: " };

    fn quick(mut words: Words) -> Option<Self> {
        let mut exec = Self::default();
        while let Some(option) = words.option()? {
            match option {
                "console-socket" => exec.console_socket = Some(words.value()?.into()),
                "pidfd-socket" => exec.pidfd_socket = Some(words.value()?.into()),
                "cwd" => exec.cwd = Some(words.value()?.into()),
                "env" => exec.env.push(words.value()?.into()),
                "tty" => exec.tty = true,
                "user" => exec.user = Some(words.value()?.into()),
                "process" => exec.process = Some(words.value()?.into()),
                "detach" => exec.detach = true,
                "pid-file" => exec.pid_file = Some(words.value()?.into()),
                "preserve-fds" => exec.preserve_fds = words.value()?.parse().ok()?,
                "no-subreaper" => exec.no_subreaper = true,
                _ => return None,
            }
        }
        exec.id_and_command.push(words.operand()?.to_owned());
        exec.id_and_command.append(&mut words.all()?);
        Some(exec)
    }

    fn run(self, context: &Context) -> Result<i32> {
        context.runtime.exec(&self.options()?)
    }
}
