//! `agent.sock`: hands the log out, and tells what is known of the node. On a thread of its own, so that readers
//! of a flood hold up nothing else.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rules::fault::shown;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::hub::{Hub, Reading};
use crate::names::Resolver;
use crate::verdicts::node::Node;
use crate::verdicts::ring::With;
use crate::verdicts::wire::{self, Answer, LONGEST, Request, VERSION, Want};

/// How long a client may take to ask, and to take an answer that ends.
const ASK: Duration = Duration::from_secs(5);
const TAKE: Duration = Duration::from_secs(10);

/// How many are served at once. Those are people, who watch.
const CLIENTS: usize = 64;

/// How much is handed to one at once.
const CHUNK: usize = 32 * 1024;

/// How often the socket's place is looked at.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_FIRST: Duration = Duration::from_millis(100);

/// What a question about the node is answered with.
pub type AboutNode = Arc<dyn Fn() -> Node + Send + Sync>;

/// What is served.
#[derive(Clone)]
pub struct Served {
    /// The log.
    pub hub: Hub,
    /// The NFLOG group of enforced rules.
    pub group: u16,
    /// The node.
    pub node: AboutNode,
    /// What names stand for.
    pub names: Arc<Resolver>,
}

/// Starts the thread.
///
/// # Errors
/// The system gives none.
pub fn start(served: Served, state_dir: PathBuf) -> io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build()?;
    let thread = thread::Builder::new().name("socket".to_owned());
    thread
        .spawn(move || runtime.block_on(stay(&served, &wire::socket(&state_dir))))
        .map(drop)
}

async fn stay(served: &Served, path: &Path) {
    let mut said = String::new();
    let clients = Arc::new(Semaphore::new(CLIENTS));
    loop {
        match listen(served, path).await {
            Ok(listener) => {
                said.clear();
                serve(served, path, listener, &clients).await;
            }
            Err(e) => {
                let problem = e.to_string();
                if problem != said {
                    tracing::warn!("cannot listen at {}, trying again: {problem}", shown(path));
                    said = problem;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Takes the place over, in one step. As long as another agent answers there and reads the groups, it stays.
async fn listen(served: &Served, path: &Path) -> io::Result<UnixListener> {
    while matches!(served.hub.reading(), Reading::Not(_)) {
        if UnixStream::connect(path).await.is_err() {
            break;
        }
        tokio::time::sleep(LOOK_FIRST).await;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    if let Some(dir) = path.parent() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    // The directory is root's alone; the socket says so, too.
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// Serves until the place is gone. If it is another agent's, this one goes on for those whom it serves.
async fn serve(served: &Served, path: &Path, listener: UnixListener, clients: &Arc<Semaphore>) {
    let ours = inode(path);
    let mut look = tokio::time::interval(LOOK);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = look.tick() => match inode(path) {
                None => return,
                now if now == ours => continue,
                _ => return, // `listen` waits for the other one's end
            },
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(clients).try_acquire_owned() {
                Ok(permit) => {
                    let served = served.clone();
                    tokio::spawn(async move {
                        converse(&served, &stream).await;
                        drop(permit);
                    });
                }
                Err(_) => {
                    let full = format!("{CLIENTS} readers are served already");
                    let _ = stream.try_write(error(full).line().as_bytes());
                }
            },
            // Too many open files, say: time may help.
            Err(e) => {
                tracing::warn!("cannot answer at {}: {e}", shown(path));
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|file| file.ino())
}

fn error(error: String) -> Answer {
    Answer::Error { v: VERSION, error }
}

/// Answers one question.
async fn converse(served: &Served, stream: &UnixStream) {
    let request = match timeout(ASK, ask(stream)).await {
        Err(_) => Err("the question took too long".to_owned()),
        Ok(Err(_)) => return, // it has gone
        Ok(Ok(question)) => understood(&question),
    };
    let answer = match request {
        Err(why) => error(why),
        Ok(Request {
            want: Want::Node, ..
        }) => Answer::Node(Box::new((served.node)())),
        Ok(Request {
            want: Want::Names, ..
        }) => Answer::Names(Box::new(served.names.told(VERSION))),
        Ok(request) => {
            // That a client has gone is its own affair.
            let _ = hand_out(served, stream, &request).await;
            return;
        }
    };
    let _ = timeout(TAKE, write(stream, answer.line().as_bytes())).await;
}

/// Reads the question: a line, or as much of one as is too long.
async fn ask(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; LONGEST];
    loop {
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            bytes.truncate(end);
            return Ok(bytes);
        }
        if bytes.len() > LONGEST {
            return Ok(bytes);
        }
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

fn understood(question: &[u8]) -> Result<Request, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    if question.len() > LONGEST {
        return Err(format!("a question has at most {LONGEST} bytes"));
    }
    // A later version may ask for what this one does not know.
    let Version { v } = serde_json::from_slice(question)
        .map_err(|e| format!("the question is not understood: {e}"))?;
    if v != VERSION {
        return Err(format!(
            "this agent speaks version {VERSION}, and was asked in version {v}"
        ));
    }
    serde_json::from_slice(question).map_err(|e| format!("the question is not understood: {e}"))
}

async fn write(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Hands the log out until all of it was, or the client has gone.
async fn hand_out(served: &Served, stream: &UnixStream, request: &Request) -> io::Result<()> {
    let with = match request.packets {
        true => With::Packets,
        false => With::Nothing,
    };
    let mut news = served.hub.follow();
    let (mut cursor, begin) = begin(served, request);
    write(stream, begin.line().as_bytes()).await?;
    let mut buffer = Vec::new();
    loop {
        news.mark_unchanged();
        buffer.clear();
        served
            .hub
            .state()
            .ring
            .read(&mut cursor, with, CHUNK, &mut buffer);
        if !buffer.is_empty() {
            write(stream, &buffer).await?;
            // Others want to be served, too.
            tokio::task::yield_now().await;
            continue;
        }
        if !request.follow {
            return Ok(());
        }
        tokio::select! {
            _ = news.changed() => {}
            gone = gone(stream) => return gone,
        }
    }
}

fn begin(served: &Served, request: &Request) -> (crate::verdicts::ring::Cursor, Answer) {
    let reading = served.hub.reading();
    let state = served.hub.state();
    let now = Instant::now();
    let cursor = match request.since {
        None => state.ring.end(),
        Some(seconds) => {
            let back = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            let since = now.checked_sub(back);
            state
                .ring
                .since(since.unwrap_or(state.ring.complete_since()))
        }
    };
    let reaches_back = now.saturating_duration_since(state.ring.complete_since());
    let (tells_original, not_reading) = match reading {
        Reading::Now { tells_original } => (tells_original, None),
        Reading::Not(why) => (true, Some(why)),
    };
    let begin = Answer::Begin {
        v: VERSION,
        group: served.group,
        reaches_back: reaches_back.as_secs_f64(),
        not_reading,
        tells_original,
    };
    (cursor, begin)
}

/// Returns when the client has. What it says meanwhile is nobody's business, but ends it.
async fn gone(stream: &UnixStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0; 64]) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
            Ok(_) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
