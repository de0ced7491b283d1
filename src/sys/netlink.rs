//! Network devices and their addresses, over rtnetlink(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    socket,
};

/// What the kernel sends at once; it cuts its answers to the buffer it is given.
const ANSWER_BYTES: usize = 32 * 1024;

/// A device as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// Whether it is up, as far as its administrator is concerned.
    pub is_up: bool,
}

/// A connection to the network namespace that it was made in.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Connects to the network namespace of this thread.
    ///
    /// # Errors
    /// `EMFILE`; `EPROTONOSUPPORT` on a kernel without networks.
    pub fn connect() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        connect(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self(fd))
    }

    /// All devices.
    ///
    /// # Errors
    /// What the kernel answers. Source: rtnetlink(7), RTM_GETLINK.
    pub fn devices(&self) -> io::Result<Vec<Device>> {
        let answers = self.ask(Message::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            Message::NewLink(link) => Some(link),
            _ => None,
        });
        Ok(links.filter_map(device).collect())
    }

    /// The addresses of a device that are to last, and are meant for more than its own link.
    ///
    /// # Errors
    /// What the kernel answers. Source: rtnetlink(7), RTM_GETADDR.
    pub fn lasting_addresses(&self, index: u32) -> io::Result<Vec<AddressMessage>> {
        let answers = self.ask(Message::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        let addresses = answers.into_iter().filter_map(|answer| match answer {
            Message::NewAddress(address) => Some(address),
            _ => None,
        });
        let lasting = addresses.filter(|address| {
            address.header.index == index
                && address.header.scope == AddressScope::Universe
                && address.header.flags.contains(AddressHeaderFlags::Permanent)
        });
        Ok(lasting.collect())
    }

    /// Sends a device to another network namespace, where it is down and has no address.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken there; `EINVAL` for a device that cannot leave, such as `lo`;
    /// `EPERM` without CAP_NET_ADMIN in both. Source: rtnetlink(7), RTM_SETLINK, IFLA_NET_NS_FD.
    pub fn send_away(&self, index: u32, netns: BorrowedFd, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.ask(Message::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Gives a device an address that [`Netlink::lasting_addresses`] has told.
    ///
    /// # Errors
    /// What the kernel answers. Source: rtnetlink(7), RTM_NEWADDR.
    pub fn add_address(&self, index: u32, address: &AddressMessage) -> io::Result<()> {
        let mut address = address.clone();
        address.header.index = index;
        // A label begins with the name of the device; times and counts are the kernel's.
        address.attributes.retain(|attribute| {
            matches!(
                attribute,
                AddressAttribute::Address(_)
                    | AddressAttribute::Local(_)
                    | AddressAttribute::Broadcast(_)
                    | AddressAttribute::Flags(_)
                    | AddressAttribute::RoutePriority(_)
            )
        });
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.ask(Message::NewAddress(address), flags).map(drop)
    }

    /// Brings a device up.
    ///
    /// # Errors
    /// What the kernel or the device's driver answers. Source: rtnetlink(7), RTM_SETLINK.
    pub fn bring_up(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(Message::SetLink(link), NLM_F_ACK).map(drop)
    }

    /// Sends one request and collects what is answered.
    fn ask(&self, message: Message, flags: u16) -> io::Result<Vec<Message>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            if collect(&buffer[..length], &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn device(link: LinkMessage) -> Option<Device> {
    let name = link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })?;
    let is_up = link.header.flags.contains(LinkFlags::Up);
    Some(Device { index: link.header.index, name, is_up })
}

/// Takes the messages out of one datagram; whether the answer is whole.
fn collect(mut datagram: &[u8], answers: &mut Vec<Message>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkMessage::<Message>::deserialize(datagram)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        // Messages begin at multiples of four.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            NetlinkPayload::Error(_) => return Ok(true),
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            _ => {}
        }
    }
    Ok(false)
}
