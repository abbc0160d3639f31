//! An address that does not answer a `SYN`, as one behind a firewall that drops packets.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// A listener whose queue is full: Linux drops each further `SYN`. Dropping it refuses them.
pub struct Mute {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Mute {
    /// Binds this address and port.
    pub async fn start(address: IpAddr, port: u16) -> Self {
        let socket = match address {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind((address, port).into()).expect("a free port");
        let listener = socket.listen(1).expect("a listener");
        let mut queue = Vec::new();
        let patience = Duration::from_millis(200);
        while let Ok(connected) = timeout(patience, TcpStream::connect((address, port))).await {
            queue.push(connected.expect("there is room in the queue"));
        }
        Self {
            _listener: listener,
            _queue: queue,
        }
    }
}
