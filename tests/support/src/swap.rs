//! A proxy that changes what is behind a living connection: it resets the server's session, or logs
//! in anew, and the client sees nothing of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::background::Background;

/// A proxy in front of one port. Dropping it closes everything.
pub struct SwappingProxy {
    port: u16,
    connections: Connections,
    _background: Background,
}

type Connections = Arc<Mutex<Vec<mpsc::Sender<Order>>>>;

struct Order {
    swap: Swap,
    done: oneshot::Sender<()>,
}

#[derive(Clone, Copy)]
enum Swap {
    Reset,
    LogInAnew,
}

impl SwappingProxy {
    /// Starts a proxy in front of this loopback port.
    pub async fn start(target: u16) -> Self {
        let background = Background::start("swap");
        let connections = Connections::default();
        let accepting = Arc::clone(&connections);
        let port = background
            .run(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                    .await
                    .expect("a port of loopback");
                let port = listener.local_addr().expect("its own address").port();
                tokio::spawn(accept_all(listener, target, accepting));
                port
            })
            .await;
        Self {
            port,
            connections,
            _background: background,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets the server's session of every open connection. Each must be at rest.
    pub async fn reset_all(&self) {
        self.order(Swap::Reset).await;
    }

    /// Gives every open connection another session of the server. Each must be at rest, and its
    /// account have no password: the client's own login is sent again.
    pub async fn swap_all(&self) {
        self.order(Swap::LogInAnew).await;
    }

    async fn order(&self, swap: Swap) {
        let connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for connection in connections {
            let (done, is_done) = oneshot::channel();
            // An error means that the connection has ended.
            if connection.send(Order { swap, done }).await.is_ok() {
                is_done.await.ok();
            }
        }
    }
}

async fn accept_all(listener: TcpListener, target: u16, connections: Connections) {
    while let Ok((client, _)) = listener.accept().await {
        let (sender, orders) = mpsc::channel(1);
        connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
        // It ends because one side has gone.
        tokio::spawn(async move { Box::pin(serve(client, target, orders)).await.ok() });
    }
}

async fn serve(
    mut client: TcpStream,
    target: u16,
    mut orders: mpsc::Receiver<Order>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (mut server, greeting) = connect(target).await?;
    client.write_all(&greeting).await?;
    let login = read_packet(&mut client).await?;
    server.write_all(&login).await?;
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read? {
                0 => return Ok(()),
                count => server.write_all(&up[..count]).await?,
            },
            read = server.read(&mut down) => match read? {
                0 => return Ok(()),
                count => client.write_all(&down[..count]).await?,
            },
            Some(order) = orders.recv() => {
                match order.swap {
                    Swap::Reset => {
                        server.write_all(&[1, 0, 0, 0, 0x1F]).await?;
                        accepted(&mut server).await?;
                    }
                    Swap::LogInAnew => {
                        let (other, _) = connect(target).await?;
                        server = other;
                        server.write_all(&login).await?;
                        accepted(&mut server).await?;
                    }
                }
                order.done.send(()).ok();
            }
        }
    }
}

async fn connect(target: u16) -> io::Result<(TcpStream, Vec<u8>)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
    let mut server = TcpStream::connect(address).await?;
    server.set_nodelay(true)?;
    let greeting = read_packet(&mut server).await?;
    Ok((server, greeting))
}

/// Reads the server's OK.
async fn accepted(server: &mut TcpStream) -> io::Result<()> {
    let answer = read_packet(server).await?;
    assert_eq!(answer.get(4), Some(&0), "the server refused: {answer:?}");
    Ok(())
}

/// Reads one packet, with its head.
async fn read_packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    stream.read_exact(&mut packet).await?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]);
    packet.resize(4 + usize::try_from(length).map_err(io::Error::other)?, 0);
    stream.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}
