//! The table on the terminal, and the cells the page's table shares with it.

use crate::dataset::group_digits;
use crate::latency::Percentiles;
use crate::row::Row;

/// Which side a column's text keeps to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A column: its heading and side.
type Column = (&'static str, Side);

/// A figure of latencies: its heading, and which it is.
pub(crate) type Figure = (&'static str, fn(&Percentiles) -> f64);

pub(crate) const P50: Figure = ("p50 ms", |p| p.p50_ms);
pub(crate) const P99: Figure = ("p99 ms", |p| p.p99_ms);
pub(crate) const P999: Figure = ("p99.9 ms", |p| p.p999_ms);
pub(crate) const WORST: Figure = ("worst ms", |p| p.worst_ms);

/// A table of text.
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Indices of rows before which a new group begins (another disk, another number of replicas).
    pub(crate) breaks: Vec<usize>,
}

/// What a column shows of a row.
type Cell<R> = Box<dyn Fn(&R) -> String>;

/// Columns for rows of type `R`, each heading beside what its cells show.
pub(crate) struct Columns<R>(Vec<(Column, Cell<R>)>);

impl<R: 'static> Columns<R> {
    pub(crate) fn new() -> Columns<R> {
        Columns(Vec::new())
    }

    pub(crate) fn left(mut self, heading: &'static str, cell: fn(&R) -> String) -> Columns<R> {
        self.0.push(((heading, Side::Left), Box::new(cell)));
        self
    }

    pub(crate) fn right(mut self, heading: &'static str, cell: fn(&R) -> String) -> Columns<R> {
        self.0.push(((heading, Side::Right), Box::new(cell)));
        self
    }

    pub(crate) fn latency(mut self, figures: &[Figure], of: fn(&R) -> Option<&Percentiles>) -> Columns<R> {
        for &(heading, pick) in figures {
            let cell = move |row: &R| optional(of(row).map(pick), 2);
            self.0.push(((heading, Side::Right), Box::new(cell)));
        }
        self
    }

    /// The table of some rows; where `group` changes from one to the next, a new group begins.
    pub(crate) fn table<K: PartialEq>(self, rows: &[R], group: impl Fn(&R) -> K) -> Table {
        Table {
            columns: self.0.iter().map(|(column, _)| *column).collect(),
            rows: rows.iter().map(|row| self.0.iter().map(|(_, cell)| cell(row)).collect()).collect(),
            breaks: (1..rows.len()).filter(|&i| group(&rows[i]) != group(&rows[i - 1])).collect(),
        }
    }
}

/// The table of some full syncs. The replica's program is a column only where it is not the primary's.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut columns = Columns::new()
        .left("server", |row: &Row| row.server.clone())
        .left("transport", |row| row.transport.clone())
        .left("disk", |row| row.disk.clone())
        .right("replicas", |row| row.replicas.to_string());
    if rows.iter().any(|row| row.replica != row.server) {
        columns = columns.left("replica", |row| row.replica.clone());
    }
    columns
        .right("sync s", |row| match (row.sync_s, &row.error) {
            (Some(s), _) => number(s, 3),
            (None, Some(_)) => "failed".into(),
            (None, None) => "-".into(),
        })
        .right("1st byte", |row| optional(row.first_byte_ms, 1))
        .right("disk MB", |row| optional(row.disk_mb, 1))
        .right("mem +MB", |row| optional(row.over_rest_mb, 1))
        .right("cpu s", |row| optional(row.cpu_s, 2))
        .latency(&[P50, P99, P999, WORST], |row| row.probe.as_ref())
        .right("machine ms", |row| optional(row.machine_ms, 2))
        .right("writes", |row| if row.sync_s.is_some() { group_digits(row.writes) } else { "-".into() })
        .table(rows, |row| (row.disk.clone(), row.replicas))
}

pub(crate) fn optional(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".into(), |v| number(v, decimals))
}

/// A number of so many decimals, fewer when it is large.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let decimals = if value >= 1000.0 {
        0
    } else if value >= 100.0 {
        decimals.min(1)
    } else {
        decimals
    };
    format!("{value:.decimals$}")
}

impl Table {
    /// As aligned text, every line ended.
    pub(crate) fn text(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(String::as_str);
            cells.chain([self.columns[i].0]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<_> = cells
                .zip(&self.columns)
                .zip(&widths)
                .map(|((cell, (_, side)), &width)| match side {
                    Side::Left => format!("{cell:<width$}"),
                    Side::Right => format!("{cell:>width$}"),
                })
                .collect();
            format!("{}\n", padded.join("  ").trim_end())
        };
        let rule = format!("{}\n", "─".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
        let mut out = line(&mut self.columns.iter().map(|(name, _)| *name));
        out.push_str(&rule);
        for (i, row) in self.rows.iter().enumerate() {
            if self.breaks.contains(&i) {
                out.push('\n');
            }
            out.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Percentiles;

    fn row(server: &str, disk: &str, sync_s: f64) -> Row {
        Row {
            server: server.into(),
            replica: server.into(),
            transport: "disk".into(),
            disk: disk.into(),
            replicas: 1,
            sync_s: Some(sync_s),
            probe: Some(Percentiles {
                samples: 9,
                p50_ms: 0.1,
                p99_ms: 1.0,
                p999_ms: 12.345,
                worst_ms: 1234.5,
            }),
            writes: 12_345,
            ..Row::default()
        }
    }

    #[test]
    fn columns_line_up_and_disks_are_set_apart() {
        let text = table(&[row("sluice", "unlimited", 0.5), row("redis 7.0.15", "50 MB/s", 14.25)]).text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[3].is_empty(), "{text}");
        let end_of_sync = |line: &str, cell: &str| line.find(cell).map(|at| at + cell.len());
        assert_eq!(end_of_sync(lines[0], "sync s"), end_of_sync(lines[2], "0.500"));
        assert_eq!(end_of_sync(lines[0], "sync s"), end_of_sync(lines[4], "14.250"));
        assert!(lines[2].ends_with("12,345") && lines[2].contains("  1234  "), "{text}");
    }

    #[test]
    fn the_replicas_program_is_shown_when_it_differs() {
        assert!(!table(&[row("sluice", "x", 1.0)]).text().contains("replica "));
        let other = Row { replica: "redis 7.0.15".into(), ..row("sluice", "x", 1.0) };
        assert!(table(&[other]).text().contains("redis 7.0.15"));
    }

    #[test]
    fn a_failed_case_has_no_figures() {
        let failed = Row { sync_s: None, probe: None, error: Some("gone".into()), ..row("sluice", "x", 0.0) };
        let text = table(&[failed]).text();
        assert!(text.contains("failed") && text.trim_end().ends_with('-'), "{text}");
    }
}
