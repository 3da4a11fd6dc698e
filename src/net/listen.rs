//! Opens listeners: one per shard, with the socket options that accepted connections inherit.
//!
//! On Linux an accepted socket is a copy of its listener (`tcp(7)`, `socket(7)`): buffer size, `TCP_NODELAY` and
//! `TCP_USER_TIMEOUT` are set once here and cost no call per connection. Sockets that the service manager opened are
//! [`adopt`]ed: they get the same options, and stay open after this process ends.
//!
//! The file of a Unix socket has its group and permissions before the socket listens. No connection is possible before,
//! so the socket is never open to more users than it should be.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::{Listen, ListenAddr, UnixSocket};

/// Connections that wait in the kernel between two accepts, as far as `net.core.somaxconn` allows.
const BACKLOG: i32 = 4096;

/// Options of accepted sockets.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Bytes of kernel send buffer.
    pub send_buffer: usize,
    /// How long sent bytes may stay unacknowledged.
    pub user_timeout: Option<Duration>,
}

/// The listeners of one address: as many as there are shards.
#[derive(Debug)]
pub struct Listeners {
    /// The address, with the port the kernel chose if it was 0.
    pub address: ListenAddr,
    /// One per shard.
    pub sockets: Vec<Socket>,
    /// Whether their connections begin with a PROXY protocol header. False for inherited ones: no setting says so.
    pub proxied: bool,
    /// Whether the service manager holds them too, so that connections in their queue survive this process.
    pub inherited: bool,
}

impl Listeners {
    /// The listener as in the settings.
    #[must_use]
    pub fn listen(&self) -> Listen {
        Listen { address: self.address.clone(), proxied: self.proxied }
    }

    /// The file to remove at the end, if there is one.
    #[must_use]
    pub fn own_file(&self) -> Option<PathBuf> {
        match &self.address {
            ListenAddr::Unix(unix) if !self.inherited => Some(unix.path.clone()),
            _ => None,
        }
    }
}

/// Listens on `address` with `count` sockets.
///
/// TCP sockets are separate (`SO_REUSEPORT`), and the kernel spreads connections over them. For Unix sockets the kernel
/// cannot: all are the same socket, and whichever thread is free accepts.
///
/// # Errors
///
/// If the address is in use, not of this machine, or not allowed, or its file may not be given to the group.
pub fn listen(address: &ListenAddr, count: usize, options: SocketOptions) -> io::Result<Listeners> {
    let sockets = match address {
        ListenAddr::Tcp(addr) => listen_tcp(*addr, count, options)?,
        ListenAddr::Unix(unix) => listen_unix(unix, count, options)?,
    };
    let bound = match address {
        ListenAddr::Tcp(_) => {
            let local = sockets[0].local_addr()?;
            ListenAddr::Tcp(local.as_socket().expect("a TCP socket has an IP address"))
        }
        ListenAddr::Unix(_) => address.clone(),
    };
    Ok(Listeners { address: bound, sockets, proxied: false, inherited: false })
}

/// Makes `count` sockets of one that listens already. As with Unix sockets, all are the same, and whichever thread is
/// free accepts.
///
/// # Errors
///
/// If it is bound to something other than an IP address or a path, or refuses the options.
pub fn adopt(socket: Socket, count: usize, options: SocketOptions) -> io::Result<Listeners> {
    let local = socket.local_addr()?;
    let address = match (local.as_socket(), local.as_pathname()) {
        (Some(addr), _) => ListenAddr::Tcp(addr),
        (None, Some(path)) => path.to_owned().into(),
        (None, None) => return Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    socket.set_nonblocking(true)?;
    socket.set_send_buffer_size(options.send_buffer)?;
    if matches!(address, ListenAddr::Tcp(_)) {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(Listeners { address, sockets: clones(socket, count)?, proxied: false, inherited: true })
}

fn clones(socket: Socket, count: usize) -> io::Result<Vec<Socket>> {
    let clones = (1..count).map(|_| socket.try_clone()).collect::<io::Result<Vec<_>>>()?;
    Ok(std::iter::once(socket).chain(clones).collect())
}

fn listen_tcp(mut addr: SocketAddr, count: usize, options: SocketOptions) -> io::Result<Vec<Socket>> {
    if addr.port() != 0 {
        // SO_REUSEPORT would let a second server bind silently and share the connections with it.
        tcp_socket(addr, options)?.bind(&addr.into())?;
    }
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = tcp_socket(addr, options)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        addr = socket.local_addr()?.as_socket().expect("a TCP socket has an IP address");
        sockets.push(socket);
    }
    // Last: if a later socket fails, connections to the first must not be refused.
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets)
}

fn tcp_socket(addr: SocketAddr, options: SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(options.send_buffer)?;
    socket.set_tcp_user_timeout(options.user_timeout)?;
    Ok(socket)
}

fn listen_unix(unix: &UnixSocket, count: usize, options: SocketOptions) -> io::Result<Vec<Socket>> {
    let socket = bind_unix(unix, options)?;
    socket.listen(BACKLOG)?;
    clones(socket, count)
}

/// Binds a socket to the path, with its group and permissions. It accepts no connections yet.
fn bind_unix(unix: &UnixSocket, options: SocketOptions) -> io::Result<Socket> {
    let address = SockAddr::unix(&unix.path)?;
    if unix.path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket()) {
        remove_left_behind(&unix.path, &address)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_send_buffer_size(options.send_buffer)?;
    socket.bind(&address)?;
    give_away(unix).inspect_err(|_| {
        // The socket does not listen yet; the file would only be in the way of the next start.
        let _ = std::fs::remove_file(&unix.path);
    })?;
    Ok(socket)
}

/// Removes a socket's file that a crash left behind. A running server's socket accepts connections, or would if its
/// queue were not full. A non-blocking connect gets `EAGAIN` in that case, and `ECONNREFUSED` if no server is left.
fn remove_left_behind(path: &Path, address: &SockAddr) -> io::Result<()> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Sets the group first: changing it may clear permissions (`chown(2)`).
fn give_away(unix: &UnixSocket) -> io::Result<()> {
    if let Some(group) = &unix.group {
        let id = group
            .id()
            .ok_or_else(|| io::Error::other(format!("the group {group} does not exist any more")))?;
        lchown(&unix.path, None, Some(id))?;
    }
    if let Some(mode) = unix.mode {
        std::fs::set_permissions(&unix.path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_sockets_inherit_the_listeners_options() {
        let address = ListenAddr::Tcp(([127, 0, 0, 1], 0).into());
        check_options(&listen(&address, 1, OPTIONS).unwrap());
    }

    #[test]
    fn an_adopted_socket_gets_the_same_options() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = adopt(socket.into(), 2, OPTIONS).unwrap();
        assert_eq!(listeners.sockets.len(), 2);
        check_options(&listeners);
    }

    #[test]
    fn a_file_is_removed_by_whoever_made_it() {
        let path = std::env::temp_dir().join(format!("tidegate-adopt-{}.sock", std::process::id()));
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let adopted = adopt(socket.into(), 1, OPTIONS).unwrap();
        assert_eq!((&adopted.address, adopted.own_file()), (&path.clone().into(), None));
        drop(adopted);
        let opened = listen(&path.clone().into(), 1, OPTIONS).unwrap();
        assert_eq!(opened.own_file(), Some(path.clone()));
        std::fs::remove_file(path).unwrap();
    }

    /// The permissions are set before any client can connect: until then no connection is possible.
    #[test]
    fn a_file_is_as_asked_for_before_the_socket_listens() {
        let path = std::env::temp_dir().join(format!("tidegate-mode-{}.sock", std::process::id()));
        for mode in [0o600, 0o666, 0o640] {
            let unix = UnixSocket { mode: Some(mode), ..path.clone().into() };
            let bound = bind_unix(&unix, OPTIONS).unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
            let early = std::os::unix::net::UnixStream::connect(&path).expect_err("it does not listen");
            assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
            bound.listen(BACKLOG).unwrap();
            std::os::unix::net::UnixStream::connect(&path).expect("it listens");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
        }
        std::fs::remove_file(path).unwrap();
    }

    /// It used to wait for a place in the queue, without end and without a message.
    #[test]
    fn a_queue_that_is_full_is_in_use() {
        let path = std::env::temp_dir().join(format!("tidegate-full-{}.sock", std::process::id()));
        let address = SockAddr::unix(&path).unwrap();
        let first = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        first.bind(&address).unwrap();
        first.listen(1).unwrap();
        let waiting = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&address).ok().map(|()| socket)
        };
        let queue: Vec<Socket> = std::iter::from_fn(waiting).collect();
        assert!(!queue.is_empty(), "it is full after some");
        let refused = listen(&path.clone().into(), 1, OPTIONS).expect_err("it is in use");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists(), "it belongs to the first one");
        std::fs::remove_file(path).unwrap();
    }

    const OPTIONS: SocketOptions =
        SocketOptions { send_buffer: 48 << 10, user_timeout: Some(Duration::from_millis(12_345)) };

    fn check_options(listeners: &Listeners) {
        let ListenAddr::Tcp(bound) = listeners.address else { panic!("it is TCP") };
        let _client = std::net::TcpStream::connect(bound).unwrap();
        let (accepted, _) = listeners.sockets[0].accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.tcp_user_timeout().unwrap(), OPTIONS.user_timeout);
        // The kernel doubles what it is given (socket(7)).
        assert_eq!(accepted.send_buffer_size().unwrap(), 2 * OPTIONS.send_buffer);
    }
}
