//! Verdicts over time, as stacked bars in SVG.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;

use super::html::time_text;
use super::summary::{ByFate, Fate};
use crate::cli::output::how_many;

/// How long a bar may last, in seconds: what people count in.
const STEPS: [i64; 16] = [
    1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
];
const MOST_BARS: i64 = 60;
/// In the SVG's own units: it is stretched to the page.
const HEIGHT: u64 = 1000;
const BAR: i64 = 10;

/// The bars: what a step of time brought.
struct Bars {
    /// In seconds since 1970.
    start: i64,
    /// In seconds.
    step: i64,
    bars: Vec<ByFate>,
}

impl Bars {
    fn of(times: &BTreeMap<i64, ByFate>) -> Option<Bars> {
        let (first, last) = (*times.first_key_value()?.0, *times.last_key_value()?.0);
        let span = last - first;
        let step = STEPS
            .into_iter()
            .find(|step| span / step < MOST_BARS - 1)
            .unwrap_or(span / (MOST_BARS - 1) + 1);
        let start = first - first.rem_euclid(step);
        let index = |second: i64| usize::try_from((second - start) / step).unwrap_or_default();
        let mut bars = vec![ByFate::default(); index(last) + 1];
        for (second, counts) in times {
            if let Some(bar) = bars.get_mut(index(*second)) {
                bar.join(counts);
            }
        }
        Some(Bars { start, step, bars })
    }

    fn time(&self, index: usize) -> String {
        let second = i64::try_from(index).unwrap_or_default() * self.step + self.start;
        // Out of range only for the last seconds of the year 9999.
        Timestamp::from_second(second)
            .map(time_text)
            .unwrap_or_default()
    }
}

/// The chart with its scale. Nothing for no lines.
pub(super) fn chart(times: &BTreeMap<i64, ByFate>) -> String {
    let Some(bars) = Bars::of(times) else {
        return String::new();
    };
    let most = bars.bars.iter().map(ByFate::total).max().unwrap_or(0);
    let width = i64::try_from(bars.bars.len()).unwrap_or(0) * BAR;
    let mut svg = String::new();
    for (index, counts) in bars.bars.iter().enumerate() {
        svg.push_str(&bar(&bars, index, counts, most));
    }
    let each = length(bars.step);
    format!(
        "<figure>\n<p class=\"scale\">at most {} in {each}</p>\n\
         <svg role=\"img\" aria-label=\"Log lines over time\" viewBox=\"0 0 {width} {HEIGHT}\" \
         preserveAspectRatio=\"none\">\n{svg}</svg>\n\
         <p class=\"axis\"><span>{}</span><span>{}</span></p>\n</figure>\n",
        how_many(most, "line"),
        bars.time(0),
        bars.time(bars.bars.len()),
    )
}

/// One bar, with its numbers as a tooltip.
fn bar(bars: &Bars, index: usize, counts: &ByFate, most: u64) -> String {
    if counts.total() == 0 {
        return String::new();
    }
    let x = i64::try_from(index).unwrap_or(0) * BAR;
    let mut svg = String::from("<g>");
    let mut title = bars.time(index);
    let mut below = 0;
    // Writing to a String can't fail.
    for fate in Fate::ALL {
        let count = counts.of(fate);
        if count == 0 {
            continue;
        }
        let (name, class) = fate.names();
        let _ = write!(title, ", {count} {name}");
        let (from, to) = (below * HEIGHT / most, (below + count) * HEIGHT / most);
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            HEIGHT - to,
            BAR - 1,
            to - from,
        );
        below += count;
    }
    let _ = writeln!(svg, "<title>{title}</title></g>");
    svg
}

/// A step in words: `10 seconds`.
fn length(seconds: i64) -> String {
    let (count, unit) = match seconds {
        s if s % 86_400 == 0 => (s / 86_400, "day"),
        s if s % 3600 == 0 => (s / 3600, "hour"),
        s if s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    how_many(count.unsigned_abs(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(seconds: &[i64]) -> Bars {
        let mut times: BTreeMap<i64, ByFate> = BTreeMap::new();
        for second in seconds {
            times.entry(*second).or_default().add(Fate::Denied);
        }
        Bars::of(&times).unwrap()
    }

    #[test]
    fn bars_are_few_and_lose_nothing() {
        let year_9999 = Timestamp::MAX.as_second();
        let year_minus_9999 = Timestamp::MIN.as_second();
        for (seconds, step) in [
            (vec![100], 1),
            (vec![0, 58], 1),
            (vec![-30, 29], 2),
            (vec![1, 3600, 3601], 120),
            (vec![0, 86_400, 86_400], 1800),
            (vec![year_minus_9999, 0, year_9999], 10_696_732_719),
        ] {
            let found = bars(&seconds);
            assert_eq!(found.step, step, "{seconds:?}");
            assert!(found.bars.len() <= 60, "{seconds:?}");
            let total: u64 = found.bars.iter().map(ByFate::total).sum();
            assert_eq!(total, seconds.len() as u64);
        }
    }

    #[test]
    fn steps_are_told_in_words() {
        let words = [1, 30, 60, 1800, 3600, 172_800].map(length);
        let wanted = [
            "1 second",
            "30 seconds",
            "1 minute",
            "30 minutes",
            "1 hour",
            "2 days",
        ];
        assert_eq!(words, wanted);
    }
}
