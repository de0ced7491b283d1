//! Local ports, passed on into the network of a pod.
//!
//! No packet is routed and no rule is made: a connection that is accepted here is one more made in
//! the pod's network namespace, to its loopback device, and bytes are copied between the two. So it
//! works for a pod with any network, also none. One thread serves all of them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::probe::Trouble;
use super::probe::connect::connect;
use super::probe::target::Address;
use super::sandbox;
use super::store::StoredPod;
use crate::container::Runtime;
use crate::error::{Error, OsContext, Result};
use crate::sys::{poll, process};

/// After an accept that failed: descriptors may come back.
const PAUSE: Duration = Duration::from_millis(100);
/// A server may listen on either family.
const LOOPBACK: &str = "localhost";

/// A local port and one of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Here; 0 is any that is free.
    pub local: u16,
    /// In the pod.
    pub remote: u16,
}

/// What there is to tell while ports are being forwarded.
#[derive(Debug)]
pub enum Told<'a> {
    /// Connections to an address are accepted from now on.
    Listens(SocketAddr, Forward),
    /// One has come.
    Accepted(Forward),
    /// It could not be passed on.
    Failed(Forward, &'a str),
}

/// Forwards until the pod ends.
///
/// With several addresses, one on which a port cannot be had is left out as long as another one
/// takes it: `localhost` is two of them, and a machine may lack IPv6.
///
/// # Errors
/// A port that cannot be had on any address; [`Error::WrongState`] if the pod does not run, or has
/// ended; what `tell` returns.
pub fn forward(
    runtime: &Runtime,
    pod: &StoredPod,
    addresses: &[IpAddr],
    ports: &[Forward],
    tell: impl Fn(Told) -> Result<()> + 'static,
) -> Result<()> {
    let Target { pause, network } = target(runtime, pod)?;
    let lost = || format!("lost connection to pod {:?}", pod.file.name());
    let async_runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .os("epoll", || "the event loop")?;
    let local = LocalSet::new();
    let network = Rc::new(network);
    local.block_on(&async_runtime, async {
        let pause = poll::readable(pause).os("epoll_ctl", || "the sandbox")?;
        tokio::select! {
            ended = serve(&network, addresses, ports, Rc::new(tell)) => ended,
            _ended = pause.readable() => Err(Error::WrongState { reason: lost() }),
        }
    })
}

async fn serve(
    network: &Rc<Option<OwnedFd>>,
    addresses: &[IpAddr],
    ports: &[Forward],
    tell: Rc<impl Fn(Told) -> Result<()> + 'static>,
) -> Result<()> {
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    for port in ports {
        for (listener, port) in listen(addresses, *port).await? {
            let address = listener.local_addr().os("getsockname", || "a listener")?;
            tell(Told::Listens(address, port))?;
            let (network, tell, ended) = (Rc::clone(network), Rc::clone(&tell), ended.clone());
            tokio::task::spawn_local(async move {
                if let Err(error) = accept_all(&network, &listener, port, tell).await {
                    let _first_one_counts = ended.try_send(error);
                }
            });
        }
    }
    drop(ended);
    match end.recv().await {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Listeners on all addresses that can be had; a port that is chosen is the same on all.
async fn listen(addresses: &[IpAddr], port: Forward) -> Result<Vec<(TcpListener, Forward)>> {
    let mut port = port;
    let mut listeners = Vec::new();
    let mut refused = None;
    for address in addresses {
        let address = SocketAddr::new(*address, port.local);
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let chosen = listener.local_addr().os("getsockname", || "a listener")?;
                port.local = chosen.port();
                listeners.push((listener, port));
            }
            Err(error) => {
                refused.get_or_insert((address, error));
            }
        }
    }
    match refused {
        Some((address, error)) if listeners.is_empty() => Err(error).os("listen on", || address),
        _ => Ok(listeners),
    }
}

/// Until there is nobody to tell.
async fn accept_all(
    network: &Rc<Option<OwnedFd>>,
    listener: &TcpListener,
    port: Forward,
    tell: Rc<impl Fn(Told) -> Result<()> + 'static>,
) -> Result<()> {
    loop {
        let Ok((mut client, _from)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        tell(Told::Accepted(port))?;
        let (network, tell) = (Rc::clone(network), Rc::clone(&tell));
        tokio::task::spawn_local(async move {
            match connect_to(port.remote, &network).await {
                Ok(mut server) => {
                    client.set_nodelay(true).unwrap_or(());
                    // Each end hears of the other's as a client or server does; a connection that
                    // breaks off is theirs to notice.
                    let _broken = copy_bidirectional(&mut client, &mut server).await;
                }
                Err(why) => {
                    let _output_gone = tell(Told::Failed(port, &why));
                }
            }
        });
    }
}

async fn connect_to(port: u16, network: &Option<OwnedFd>) -> Result<TcpStream, String> {
    let address = Address { host: LOOPBACK.to_owned(), port };
    match connect(&address, network.as_ref().map(AsFd::as_fd)).await {
        Ok(stream) => Ok(stream),
        // All other sockets of this process would be made in the pod.
        Err(Trouble::Stranded(error)) => {
            crate::log::error(error);
            process::exit_now(1)
        }
        Err(Trouble::Failure(why) | Trouble::PlainServer(why) | Trouble::Unknown(why)) => Err(why),
    }
}

/// The pod that is forwarded to.
struct Target {
    pause: OwnedFd,
    /// `None` is the machine's.
    network: Option<OwnedFd>,
}

fn target(runtime: &Runtime, pod: &StoredPod) -> Result<Target> {
    let name = pod.file.name();
    let not_running = || Error::WrongState {
        reason: format!("unable to forward port because pod {name:?} is not running"),
    };
    let sandbox = pod.record.as_ref().and_then(|record| record.sandbox.as_ref());
    let held = sandbox.map(|sandbox| sandbox::hold(runtime, sandbox)).transpose()?.flatten();
    let (pause, network) = held.ok_or_else(not_running)?;
    let spec = pod.file.manifest.pod.spec.as_ref();
    let is_hosts = spec.and_then(|spec| spec.host_network) == Some(true);
    Ok(Target { pause, network: (!is_hosts).then_some(network) })
}
