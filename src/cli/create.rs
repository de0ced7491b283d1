//! `create` and `run`.

use std::path::PathBuf;

use super::image::run::ImageRun;
use super::quick::Words;
use super::{Context, Verb};
use crate::{
    container::{Attach, CreateOptions, Keyring, RootSwitch, RunOptions},
    error::{Error, Result},
};

/// What `create` and `run` have in common.
#[derive(Debug, clap::Args)]
struct Shared {
    /// Directory with config.json [default: the current directory]
    #[arg(short, long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    bundle: PathBuf,
    /// Unix socket that receives the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the init process
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// File to write the pid of the init process to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Switch the root by moving the mount instead of pivot_root, for a root on an initramfs
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass N more file descriptors from 3 on, besides those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            bundle: ".".into(),
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
        }
    }
}

impl Shared {
    /// Takes an option of `words` that has this name.
    fn quick(&mut self, option: &str, words: &mut Words) -> Option<()> {
        match option {
            "bundle" => self.bundle = words.value()?.into(),
            "console-socket" => self.console_socket = Some(words.value()?.into()),
            "pidfd-socket" => self.pidfd_socket = Some(words.value()?.into()),
            "pid-file" => self.pid_file = Some(words.value()?.into()),
            "no-pivot" => self.no_pivot = true,
            "no-new-keyring" => self.no_new_keyring = true,
            "preserve-fds" => self.preserve_fds = words.value()?.parse().ok()?,
            _ => return None,
        }
        Some(())
    }

    fn options(self, id: String) -> CreateOptions {
        CreateOptions {
            id,
            bundle: self.bundle,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            pid_file: self.pid_file,
            root_switch: if self.no_pivot { RootSwitch::Move } else { RootSwitch::Pivot },
            keyring: if self.no_new_keyring { Keyring::Inherit } else { Keyring::New },
            preserve_fds: self.preserve_fds,
        }
    }
}

/// Make a container from a bundle, ready up to the call of its process, which waits for
/// `carob start`
#[derive(Debug, Default, clap::Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(super) struct Create {
    #[command(flatten)]
    shared: Shared,
    // The shim of containerd's rust-extensions passes it; `create` always detaches.
    #[arg(short, long, hide = true)]
    detach: bool,
    /// The name of the new container, unique under the state root
    #[arg(value_name = "ID")]
    id: String,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  carob create --bundle DIR --pid-file web.pid web </dev/null >web.log 2>&1
  carob start web
  carob delete --force web
With process.terminal true in config.json (as `carob spec` writes it), create needs
--console-socket; `carob run` uses the terminal it is called from.";

impl Create {
    /// What the command line asks for.
    pub(super) fn options(self) -> CreateOptions {
        self.shared.options(self.id)
    }
}

impl Verb for Create {
    fn quick(mut words: Words) -> Option<Self> {
        let mut create = Self::default();
        while let Some(option) = words.option()? {
            match option {
                "detach" => create.detach = true,
                shared => create.shared.quick(shared, &mut words)?,
            }
        }
        create.id = words.last()?;
        Some(create)
    }

    fn run(self, context: &Context) -> Result<i32> {
        context.runtime.create(&self.options())?;
        Ok(0)
    }
}

/// Create a container, start it, forward signals to it, and exit with its status (128+n after
/// signal n); it is deleted when it ends
#[derive(Debug, Default, clap::Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(super) struct Run {
    #[command(flatten)]
    shared: Shared,
    /// Do not wait for the container
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container when it ends
    #[arg(long)]
    keep: bool,
    /// Do not adopt orphans of the container
    #[arg(long)]
    no_subreaper: bool,
    #[command(flatten)]
    image: ImageRun,
    /// The name of the new container, unique under the state root; with --image the command and its
    /// arguments instead of the image's CMD
    #[arg(value_name = "ID", required_unless_present = "image")]
    words: Vec<String>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  carob run -it --image busybox
  carob run --image docker-archive:app.tar /bin/app --flag
  carob run --bundle DIR web
  carob run --detach --bundle DIR web </dev/null >web.log 2>&1
With process.terminal true in config.json, --detach needs --console-socket.";

impl Run {
    /// What the command line asks for.
    #[cfg(test)]
    pub(super) fn options(self) -> RunOptions {
        self.take_apart().0
    }

    fn take_apart(mut self) -> (RunOptions, ImageRun, Vec<String>) {
        let id = match (self.image.is_wanted(), self.words.len()) {
            (false, 1) => self.words.remove(0),
            _ => String::new(),
        };
        let options = RunOptions {
            create: self.shared.options(id),
            attach: if self.detach { Attach::Detach } else { Attach::Foreground },
            keep: self.keep,
            no_subreaper: self.no_subreaper,
        };
        (options, self.image, self.words)
    }
}

impl Verb for Run {
    fn quick(mut words: Words) -> Option<Self> {
        let mut run = Self::default();
        while let Some(option) = words.option()? {
            match option {
                "detach" => run.detach = true,
                "keep" => run.keep = true,
                "no-subreaper" => run.no_subreaper = true,
                shared => run.shared.quick(shared, &mut words)?,
            }
        }
        run.words.push(words.last()?);
        Some(run)
    }

    fn run(self, context: &Context) -> Result<i32> {
        let (options, image, words) = self.take_apart();
        match words.as_slice() {
            _ if image.is_wanted() => image.run(context, words, options),
            [] => context.runtime.run(&options),
            [first, ..] => Err(Error::Invalid(format!(
                "unexpected argument {first:?}: run takes one ID; to run an image: carob run --image \
                 {first}"
            ))),
        }
    }
}
