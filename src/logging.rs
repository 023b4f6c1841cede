//! The program's own log: one line an event, on stderr or appended to a file.
//!
//! Runtimes throw a plugin's stderr away unless it fails, and stdout belongs to the result.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rules::fault::shown;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Starts logging, for the rest of the process. Without `file`, or if it can't be opened, to
/// stderr: a full or missing disk must not stop a pod.
pub fn init(level: Level, file: Option<&Path>) {
    let opened = file.map(open).transpose();
    if let Ok(Some(file)) = &opened {
        DESCRIPTOR.store(file.as_raw_fd(), Ordering::Relaxed);
    }
    let (destination, problem) = match opened {
        Ok(file) => (LogTarget(file.map(Arc::new)), None),
        Err(error) => (LogTarget(None), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        // It would report a failed write with eprintln!, which panics when stderr is closed.
        .log_internal_errors(false)
        .with_writer(destination)
        .finish()
        // Libraries have their own idea of what is an error, and log what servers send them.
        .with(Targets::new().with_target("egressway", level));
    // Only a test could have set another one before.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let (Some(error), Some(file)) = (problem, file) {
        tracing::warn!(file = %shown(file), %error, "cannot open the log file, logging to stderr");
    }
}

/// The same as JSON, an object an event, each given to `write` with its line feed: for a process that stays, whose
/// output others read.
pub fn init_json(level: Level, write: impl Fn(&[u8]) + Send + Sync + 'static) {
    let subscriber = tracing_subscriber::registry()
        .with(Json(write))
        .with(Targets::new().with_target("egressway", level));
    // Only a test could have set another one before.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Json<W>(W);

impl<S: Subscriber, W: Fn(&[u8]) + Send + Sync + 'static> Layer<S> for Json<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        (self.0)(line_of(&level, &fields.message, fields.others).as_bytes());
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: serde_json::Map<String, serde_json::Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => drop(self.others.insert(name.to_owned(), value.into())),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}

/// A line such as [`init_json`]'s, for who writes there itself.
pub fn json_line(level: &str, message: &str) -> String {
    line_of(level, message, serde_json::Map::new())
}

fn line_of(
    level: &str,
    message: &str,
    others: serde_json::Map<String, serde_json::Value>,
) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        kind: &'static str,
        v: u32,
        time: String,
        level: &'a str,
        message: &'a str,
        #[serde(flatten)]
        others: serde_json::Map<String, serde_json::Value>,
    }
    let line = Line {
        kind: "log",
        v: 1,
        time: format!("{:.6}", jiff::Timestamp::now()),
        level,
        message,
        others,
    };
    // Nothing in it can fail by itself.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

/// Where [`init`]'s log goes: it stays open for the rest of the process.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(libc::STDERR_FILENO);

/// The descriptor of the log, for whoever can't log in another way.
pub fn descriptor() -> RawFd {
    DESCRIPTOR.load(Ordering::Relaxed)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        // A FIFO that nobody reads is an error, not a reason to wait.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Where lines go: a file, or stderr.
#[derive(Clone)]
struct LogTarget(Option<Arc<File>>);

impl<'a> MakeWriter<'a> for LogTarget {
    type Writer = OneLine<Box<dyn Write + 'a>>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(match &self.0 {
            Some(file) => Box::new(file.as_ref()),
            None => Box::new(io::stderr()),
        })
    }
}

/// Escapes control characters, so that no logged value can start a line of its own or speak to a
/// terminal. The subscriber hands over each event with one write.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // One write an event: several processes append to the same file.
        self.0
            .write_all(one_line(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An event as one line, whatever is in it.
pub fn one_line(event: &str) -> String {
    let mut line = String::with_capacity(event.len() + 1);
    for c in event.strip_suffix('\n').unwrap_or(event).chars() {
        // U+2028 and U+2029 are no control characters, but end lines as well.
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            // Writing to a String can't fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(one_line("plain é\n"), "plain é\n");
        assert_eq!(
            one_line("a\nb\r\t\u{1b}[31m\u{9b}\0\u{2028}\n"),
            "a\\nb\\r\\t\\u{1b}[31m\\u{9b}\\u{0}\\u{2028}\n"
        );
    }

    #[test]
    fn events_carry_their_spans_fields_and_no_colours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(LogTarget(Some(Arc::new(open(&path).unwrap()))))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::error_span!("cni", container = "c1", pod = "shop\nweb").entered();
            tracing::warn!(value = "x\ny", "first");
            tracing::info!("second\nline");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for line in &lines {
            assert!(
                line.contains("container=\"c1\"") && line.contains("pod=\"shop\\nweb\""),
                "{line}"
            );
            // RFC 3339 in UTC
            assert!(
                line.starts_with("20") && line.split(' ').next().unwrap().ends_with('Z'),
                "{line}"
            );
            assert!(!line.contains('\u{1b}'));
        }
        assert!(
            lines[0].contains("WARN") && lines[0].contains("value=\"x\\ny\""),
            "{text}"
        );
        assert!(lines[1].contains("second\\nline"), "{text}");
    }

    #[test]
    fn an_event_is_one_object() {
        let (said, heard) = std::sync::mpsc::channel();
        let said = std::sync::Mutex::new(said);
        let write = move |line: &[u8]| {
            let said = said.lock().unwrap();
            said.send(String::from_utf8(line.to_vec()).unwrap())
                .unwrap();
        };
        let subscriber = tracing_subscriber::registry().with(Json(write));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(pod = %"shop\nweb", count = 3, "first \"{}\"\n", 1);
        });
        let line = heard.try_recv().unwrap();
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
        for (name, wanted) in [
            ("kind", "log".into()),
            ("v", 1.into()),
            ("level", "warn".into()),
            ("message", "first \"1\"\n".into()),
            ("pod", "shop\nweb".into()),
            ("count", serde_json::Value::from(3)),
        ] {
            assert_eq!(value[name], wanted, "{name}");
        }
    }

    #[test]
    fn what_is_no_file_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).is_err());
        assert!(open(&dir.path().join("missing/log")).is_err());
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(&fifo).is_err());
    }
}
