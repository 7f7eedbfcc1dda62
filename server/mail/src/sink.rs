//! A mail server for tests: speaks SMTP on a free port, keeps what it is given and sends nothing on.
//!
//! One thread accepts, one thread serves each connection; both end with the test's process. Waiting is
//! for the mail itself, never for a time.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A mail as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// Headers and body, lines ended by `\n`, without transparency dots.
    pub data: String,
    /// User name and password, if the client logged in.
    pub login: Option<(String, String)>,
    /// Whether it came over TLS.
    pub encrypted: bool,
}

impl Received {
    /// The body with quoted-printable undone, for finding links.
    pub fn text(&self) -> String {
        let body = self.data.split_once("\n\n").map_or("", |(_, body)| body);
        let joined = body.replace("=\n", "");
        let mut bytes = Vec::with_capacity(joined.len());
        let mut rest = joined.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
            match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
                Some(decoded) if byte == b'=' => {
                    bytes.push(decoded);
                    rest = &tail[2..];
                }
                _ => {
                    bytes.push(byte);
                    rest = tail;
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// How the sink behaves.
#[derive(Clone, Default)]
pub struct Behaviour {
    /// Offers STARTTLS with this configuration.
    pub starttls: Option<Arc<ServerConfig>>,
    /// Demands this user name and password.
    pub login: Option<(String, String)>,
    /// Answers every recipient with this line, for instance `550 5.1.1 no such user`.
    pub refuse: Option<String>,
}

#[derive(Default)]
struct Shared {
    mails: Mutex<Vec<Received>>,
    changed: Condvar,
}

/// The listening sink.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Sink {
    /// Listens on a free port of this machine.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(behaviour: Behaviour) -> std::io::Result<Sink> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let mails = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behaviour, mails) = (behaviour.clone(), Arc::clone(&mails));
                std::thread::spawn(move || {
                    // A client that goes away in the middle is its own business.
                    let _ = Session::default().serve(stream, &behaviour, &mails);
                });
            }
        });
        Ok(Sink { address, shared })
    }

    /// For `--smtp-url`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Received> {
        let mails = self.shared.mails.lock();
        mails.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for mail number `count` (from 1) and returns it; `None` when it does not come in time.
    pub fn wait(&self, count: usize, limit: Duration) -> Option<Received> {
        let end = Instant::now() + limit;
        let mails = self.shared.mails.lock();
        let mut mails = mails.unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(mail) = count.checked_sub(1).and_then(|index| mails.get(index)) {
                return Some(mail.clone());
            }
            let left = end.checked_duration_since(Instant::now())?;
            let waited = self.shared.changed.wait_timeout(mails, left);
            mails = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

#[derive(Default)]
struct Session {
    from: String,
    to: Vec<String>,
    login: Option<(String, String)>,
    encrypted: bool,
}

enum Next {
    Line,
    Encrypt,
    End,
}

impl Session {
    fn serve(
        mut self,
        stream: TcpStream,
        behaviour: &Behaviour,
        mails: &Shared,
    ) -> std::io::Result<()> {
        let mut lines = BufReader::new(Box::new(stream.try_clone()?) as Box<dyn Stream>);
        say(&mut lines, "220 sink ESMTP")?;
        loop {
            let Some(line) = read(&mut lines)? else {
                return Ok(());
            };
            match self.command(&line, &mut lines, behaviour, mails)? {
                Next::Line => {}
                Next::End => return Ok(()),
                Next::Encrypt => {
                    let Some(config) = behaviour.starttls.clone() else {
                        return Ok(());
                    };
                    let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
                    let secured = StreamOwned::new(tls, stream.try_clone()?);
                    lines = BufReader::new(Box::new(secured) as Box<dyn Stream>);
                    self = Session {
                        encrypted: true,
                        ..Session::default()
                    };
                }
            }
        }
    }

    fn command(
        &mut self,
        line: &str,
        lines: &mut BufReader<Box<dyn Stream>>,
        behaviour: &Behaviour,
        mails: &Shared,
    ) -> std::io::Result<Next> {
        let verb = line
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                let mut answer = vec!["250-sink"];
                if behaviour.starttls.is_some() && !self.encrypted {
                    answer.push("250-STARTTLS");
                }
                if behaviour.login.is_some() {
                    answer.push("250-AUTH PLAIN");
                }
                answer.push("250 8BITMIME");
                say(lines, &answer.join("\r\n"))?;
            }
            "STARTTLS" => {
                say(lines, "220 go ahead")?;
                return Ok(Next::Encrypt);
            }
            "AUTH" => {
                self.login = plain_login(line);
                let right = self.login.is_some() && self.login == behaviour.login;
                let answer = ["535 5.7.8 wrong user name or password", "235 welcome"];
                say(lines, answer[usize::from(right)])?;
            }
            "MAIL" if behaviour.login.is_some() && self.login != behaviour.login => {
                say(lines, "530 5.7.0 log in first")?;
            }
            "MAIL" => {
                self.from = address(line);
                self.to.clear();
                say(lines, "250 ok")?;
            }
            "RCPT" => match &behaviour.refuse {
                Some(refusal) => say(lines, refusal)?,
                None => {
                    self.to.push(address(line));
                    say(lines, "250 ok")?;
                }
            },
            "DATA" => {
                say(lines, "354 end with a dot")?;
                let data = data(lines)?;
                let mut kept = mails.mails.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(Received {
                    from: self.from.clone(),
                    to: self.to.clone(),
                    data,
                    login: self.login.clone(),
                    encrypted: self.encrypted,
                });
                mails.changed.notify_all();
                drop(kept);
                say(lines, "250 taken")?;
            }
            "QUIT" => {
                say(lines, "221 bye")?;
                return Ok(Next::End);
            }
            _ => say(lines, "250 ok")?,
        }
        Ok(Next::Line)
    }
}

fn say(lines: &mut BufReader<Box<dyn Stream>>, text: &str) -> std::io::Result<()> {
    let stream = lines.get_mut();
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    stream.flush()
}

fn read(lines: &mut BufReader<Box<dyn Stream>>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

fn data(lines: &mut BufReader<Box<dyn Stream>>) -> std::io::Result<String> {
    let mut data = String::new();
    while let Some(line) = read(lines)?.filter(|line| line != ".") {
        data.push_str(line.strip_prefix('.').unwrap_or(&line));
        data.push('\n');
    }
    Ok(data)
}

fn address(line: &str) -> String {
    let inner = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(String::new(), |(address, _)| address.to_owned())
}

fn plain_login(line: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(line.split(' ').nth(2)?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let mut parts = text.split('\0').skip(1);
    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
}
