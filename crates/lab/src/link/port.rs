//! One inner end of a link: an AF_PACKET socket that reads what comes in and writes what goes out.
//!
//! Reading and writing use the same socket on purpose: the kernel never returns to a packet socket the frames it sent
//! itself, so a frame that we hand to an interface is not taken from it again and no frame loops.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with, sockopt,
};

/// Longest frame: an MTU of 1500 and the Ethernet header.
pub(super) const FRAME_MAX: usize = 1514;

/// Kernel buffer of a port: 4 MiB hold a burst of about 1,800 full frames, more than a transfer's window.
const SOCKET_BUFFER: usize = 4 << 20;

/// What reading a port gave.
pub(super) enum Read {
    /// A frame of this length is in the buffer.
    Frame(usize),
    /// A frame longer than [`FRAME_MAX`] was thrown away.
    Oversize,
    /// Nothing is there.
    Empty,
}

pub(crate) struct Port {
    socket: OwnedFd,
}

impl Port {
    /// Opens the port at interface `name`; to be called on a thread inside the emulator's namespace.
    pub(crate) fn open(name: &str) -> Result<Self> {
        // No protocol yet: until it is bound to its interface the socket must not gather frames of the others.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None).context("a packet socket")?;
        sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)?;
        sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER)?;
        let interface = pnet_datalink::NetworkInterface {
            name: name.to_owned(),
            description: String::new(),
            index: netdevice::name_to_index(&socket, name).with_context(|| format!("no interface {name}"))?,
            mac: None,
            ips: Vec::new(),
            flags: 0,
        };
        // pnet binds the socket and makes the interface promiscuous. It owns the descriptor it is given, so it gets a
        // duplicate, and is not needed any more once both is done.
        let duplicate = socket.try_clone().context("duplicating a packet socket")?;
        let config = pnet_datalink::Config {
            socket_fd: Some(duplicate.into_raw_fd()),
            promiscuous: true,
            ..pnet_datalink::Config::default()
        };
        pnet_datalink::channel(&interface, config).with_context(|| format!("binding to {name}"))?;
        Ok(Self { socket })
    }

    /// Takes the next frame.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<Read> {
        match recv(&self.socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, length)) if length > FRAME_MAX.min(buffer.len()) => Ok(Read::Oversize),
            Ok((_, length)) => Ok(Read::Frame(length)),
            // The interface going down is told once; it may come up again.
            Err(Errno::AGAIN | Errno::INTR | Errno::NETDOWN) => Ok(Read::Empty),
            Err(error) => Err(error).context("reading a link"),
        }
    }

    /// Hands a frame over; false when the kernel would not take it.
    pub(crate) fn write(&self, frame: &[u8]) -> bool {
        send(&self.socket, frame, SendFlags::empty()).is_ok()
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
