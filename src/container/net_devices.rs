//! `linux.netDevices`: devices of the host that a container gets for itself.
//!
//! They go before the first hook runs. Of a container that is not made after all they come
//! back: a virtual device would otherwise end with the network namespace it is in.
//!
//! Source: runtime-spec, config-linux.md, Network Devices.

use std::fs::File;
use std::os::fd::AsFd;

use netlink_packet_route::address::AddressMessage;
use nix::unistd::Pid;

use crate::error::{Error, OsContext, Result};
use crate::log;
use crate::oci::plan::NetDevicePlan;
use crate::sys::net;
use crate::sys::netlink::{Device, Netlink};

/// Devices that are in a container; dropped, it brings them back.
#[derive(Debug)]
pub(super) struct Lent {
    host: Netlink,
    host_netns: File,
    container: Netlink,
    devices: Vec<LentDevice>,
}

#[derive(Debug)]
struct LentDevice {
    /// As it was on the host.
    device: Device,
    addresses: Vec<AddressMessage>,
    /// Its number in the container.
    index: u32,
}

impl Lent {
    /// Moves the devices into the network namespace of `init`, each with its lasting addresses,
    /// and brings them up. Those moved before a failure come back.
    ///
    /// # Errors
    /// [`Error::Config`] with the JSON path of the device.
    pub(super) fn to(init: Pid, plans: &[NetDevicePlan]) -> Result<Self> {
        let path = format!("/proc/{init}/ns/net");
        let netns = File::open(&path).os("open", || path)?;
        let connect = || Netlink::connect().os("connect to", || "netlink");
        let host_netns =
            File::open("/proc/self/ns/net").os("open", || "the own network namespace")?;
        let mut lent = Self {
            host: connect()?,
            host_netns,
            container: net::within(netns.as_fd(), connect)??,
            devices: Vec::new(),
        };
        for plan in plans {
            lent.lend(plan, &netns)?;
        }
        Ok(lent)
    }

    /// They stay where they are.
    pub(super) fn keep(mut self) {
        self.devices.clear();
    }

    fn lend(&mut self, plan: &NetDevicePlan, netns: &File) -> Result<()> {
        let field = || format!("linux.netDevices.{}", plan.name);
        let device = find(&self.host, &plan.name)?
            .ok_or_else(|| Error::config(field(), "no such network device on the host"))?;
        let before = devices(&self.container)?;
        if before.iter().any(|other| other.name == plan.name_inside) {
            let reason = format!("the container has a {} already", plan.name_inside);
            return Err(Error::config(field(), reason));
        }
        let addresses = self
            .host
            .lasting_addresses(device.index)
            .property(|| (field(), "ask for its addresses"))?;
        self.host
            .send_away(device.index, netns.as_fd(), &plan.name_inside)
            .property(|| (field(), "move it into the container's network namespace"))?;
        // By what is new: the name may be one that the kernel has completed.
        let arrived = devices(&self.container)?
            .into_iter()
            .find(|new| before.iter().all(|old| old.index != new.index))
            .ok_or_else(|| Error::config(field(), "has not arrived in the container"))?;
        let lent = LentDevice { device, addresses, index: arrived.index };
        let settled = settle(&self.container, arrived.index, &lent.addresses);
        self.devices.push(lent);
        settled.property(|| (field(), "set its addresses and bring it up"))
    }

    fn bring_back(&self, lent: &LentDevice) -> std::io::Result<()> {
        self.container.send_away(lent.index, self.host_netns.as_fd(), &lent.device.name)?;
        let devices = self.host.devices()?;
        let Some(back) = devices.iter().find(|device| device.name == lent.device.name) else {
            return Err(nix::errno::Errno::ENODEV.into());
        };
        if lent.device.is_up {
            return settle(&self.host, back.index, &lent.addresses);
        }
        lent.addresses.iter().try_for_each(|address| self.host.add_address(back.index, address))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for lent in self.devices.iter().rev() {
            if let Err(error) = self.bring_back(lent) {
                let name = &lent.device.name;
                log::warn(format_args!("linux.netDevices.{name}: bring it back: {error}"));
            }
        }
    }
}

/// Up last, as an administrator would: what happens then may look at the addresses.
fn settle(at: &Netlink, index: u32, addresses: &[AddressMessage]) -> std::io::Result<()> {
    addresses.iter().try_for_each(|address| at.add_address(index, address))?;
    at.bring_up(index)
}

fn find(at: &Netlink, name: &str) -> Result<Option<Device>> {
    Ok(devices(at)?.into_iter().find(|device| device.name == name))
}

fn devices(at: &Netlink) -> Result<Vec<Device>> {
    at.devices().os("ask for", || "the network devices")
}
