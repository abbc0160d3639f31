//! A client for HTTP that keeps its connection.

use std::{collections::HashMap, io, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

pub struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    /// By name in small letters.
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = BufReader::new(TcpStream::connect(address).await?);
        Ok(Self { stream })
    }

    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, "").await
    }

    pub async fn request(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: recipe\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await?;
        let status = self.line().await?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = HashMap::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers
            .get("content-length")
            .and_then(|text| text.parse().ok());
        let mut body = vec![0; length.unwrap_or_default()];
        self.stream.read_exact(&mut body).await?;
        Ok(Answer {
            code: code.ok_or(io::ErrorKind::InvalidData)?,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

/// One request on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    Client::connect(address).await?.get(path).await
}
