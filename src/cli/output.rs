//! What all subcommands print alike: tables, JSON, colour, and the end of a closed pipe.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::ValueEnum;
pub use rules::fault::{printable, shown};
use unicode_width::UnicodeWidthStr;

/// `-o`: for people or for programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people.
    #[default]
    Text,
    /// JSON with stable field names.
    Json,
}

/// `--color`: when output is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColourWhen {
    /// On a terminal that can, unless `NO_COLOR` is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// What the command line said.
static COLOUR: OnceLock<ColourWhen> = OnceLock::new();

/// To be called once, before anything is printed.
pub fn choose_colour(when: ColourWhen) {
    // A second call would be a second command line.
    let _ = COLOUR.set(when);
}

/// Runs a subcommand's work on a buffered stdout. A reader that closes the pipe (`| head`) ends it
/// quietly.
pub fn run(
    work: impl FnOnce(&mut dyn Write) -> Result<ExitCode, Box<dyn std::error::Error>>,
) -> ExitCode {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let outcome = work(&mut stdout).and_then(|code| {
        as_far_as_read(stdout.flush())?;
        Ok(code)
    });
    match outcome {
        Ok(code) => code,
        Err(e) if is_closed_pipe(e.as_ref()) => ExitCode::SUCCESS,
        Err(e) => {
            // What was written before the failure is still worth reading.
            let _ = stdout.flush();
            let _ = writeln!(io::stderr(), "egressway: {e}");
            ExitCode::FAILURE
        }
    }
}

/// What was written as far as somebody read it: for commands whose status answers even if nobody read to the end.
pub fn as_far_as_read(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// `1 line`, `2 lines`.
pub fn how_many(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// What a text means, for colour on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Warning,
    Faint,
    Strong,
}

/// Whether stdout shall be coloured: as `--color` says, else on a terminal that can, without `NO_COLOR`
/// (no-color.org).
pub fn colour() -> bool {
    match COLOUR.get().copied().unwrap_or_default() {
        ColourWhen::Always => true,
        ColourWhen::Never => false,
        ColourWhen::Auto => {
            io::stdout().is_terminal()
                && !is_dumb()
                && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        }
    }
}

/// Whether the terminal knows no control sequences: `TERM=dumb`.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The text in its tone, or as it is if `colour` is false.
pub fn toned(text: &str, tone: Tone, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warning => "33",
        Tone::Faint => "2",
        Tone::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// How wide the terminal is to which stdout goes. None: it goes elsewhere, where every cell is wanted whole.
pub fn terminal_width() -> Option<usize> {
    let (terminal_size::Width(width), _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(width.into())
}

/// Columns, as wide as their widest cell. The last one is never padded.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// How many spaces less than three are between columns.
    closer: usize,
}

/// What stands for the rest of a cell.
const CUT: char = '…';

/// No column is cut to less.
const NARROWEST: usize = 6;

impl Table {
    /// A table whose first row are these titles.
    pub fn new(titles: &[&str]) -> Self {
        Self {
            rows: vec![titles.iter().map(|title| (*title).to_owned()).collect()],
            closer: 0,
        }
    }

    /// The same with two spaces between columns.
    pub fn close(titles: &[&str]) -> Self {
        Self {
            closer: 1,
            ..Self::new(titles)
        }
    }

    /// Whether each line fits.
    pub fn fits(&self, width: usize) -> bool {
        self.widths().iter().sum::<usize>() <= self.room(width)
    }

    /// What columns may take up together.
    fn room(&self, width: usize) -> usize {
        let columns = self.rows.first().map_or(0, Vec::len);
        width.saturating_sub((3 - self.closer) * columns.saturating_sub(1))
    }

    /// Cuts the widest cells until each line fits.
    pub fn fit(&mut self, width: usize) {
        let mut widths = self.widths();
        let room = self.room(width);
        while widths.iter().sum::<usize>() > room {
            let Some(widest) = widths
                .iter_mut()
                .max()
                .filter(|widest| **widest > NARROWEST)
            else {
                break;
            };
            *widest -= 1;
        }
        for row in &mut self.rows {
            for (cell, width) in row.iter_mut().zip(&widths) {
                if cell.width() > *width {
                    *cell = cut(cell, *width);
                }
            }
        }
    }

    /// Changes the last cell of each row but the titles.
    pub fn last_cells(&mut self) -> impl Iterator<Item = &mut String> {
        self.rows
            .iter_mut()
            .skip(1)
            .filter_map(|row| row.last_mut())
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        (0..self.rows.first().map_or(0, Vec::len))
            .map(width)
            .collect()
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let gap = 3 - self.closer;
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width.saturating_sub(cell.width());
                line.push_str(&format!("{cell}{:1$}", "", padding + gap));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The beginning and the end of a cell: names of pods differ in the end.
fn cut(cell: &str, width: usize) -> String {
    let room = width.saturating_sub(1);
    let (mut head, mut tail) = (String::new(), String::new());
    for c in cell.chars() {
        head.push(c);
        if head.width() > room - room / 2 {
            head.pop();
            break;
        }
    }
    for c in cell.chars().rev() {
        tail.insert(0, c);
        if tail.width() > room / 2 {
            tail.remove(0);
            break;
        }
    }
    format!("{head}{CUT}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_wide_is_cut_in_the_middle() {
        let mut table = Table::close(&["POD", "MODE", "STATE"]);
        table.row(vec![
            "payments/web-7f9c4d5b9-x2xkq".into(),
            "enforce".into(),
            "ok".into(),
        ]);
        table.row(vec![
            "a".into(),
            "audit".into(),
            "chain pod-0123456789abcdef is missing".into(),
        ]);
        table.fit(40);
        let text = table.to_string();
        assert_eq!(
            text,
            "POD              MODE     STATE\n\
             payment…9-x2xkq  enforce  ok\n\
             a                audit    chain p…issing\n"
        );
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        table.fit(5);
        assert!(
            table.to_string().contains("pay…kq"),
            "nothing is lost whole"
        );
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let mut table = Table::new(&["POD", "VETH"]);
        table.row(vec!["payments/web-0".into(), "veth1".into()]);
        table.row(vec!["a".into(), String::new()]);
        table.row(vec!["漢".into(), "wide".into()]);
        assert_eq!(
            table.to_string(),
            "POD              VETH\npayments/web-0   veth1\na\n漢               wide\n"
        );
    }
}
