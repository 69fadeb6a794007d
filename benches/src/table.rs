//! The table on the terminal, and the cells the page's table shares with it.

use crate::row::Row;

/// Which side a column's text keeps to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A column: its heading and side.
type Column = (&'static str, Side);

const NAMES: [Column; 4] =
    [("server", Side::Left), ("transport", Side::Left), ("disk", Side::Left), ("replicas", Side::Right)];
const REPLICA: Column = ("replica", Side::Left);
const FIGURES: [Column; 11] = [
    ("sync s", Side::Right),
    ("1st byte", Side::Right),
    ("disk MB", Side::Right),
    ("mem +MB", Side::Right),
    ("cpu s", Side::Right),
    ("p50 ms", Side::Right),
    ("p99 ms", Side::Right),
    ("p99.9 ms", Side::Right),
    ("worst ms", Side::Right),
    ("machine ms", Side::Right),
    ("writes", Side::Right),
];

/// A table of text.
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Indices of rows before which a new disk or number of replicas begins.
    pub(crate) breaks: Vec<usize>,
}

/// The table of some rows. The replica's program is a column only where it is not the primary's.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mixed = rows.iter().any(|row| row.replica != row.server);
    let columns = NAMES.into_iter().chain(mixed.then_some(REPLICA)).chain(FIGURES).collect();
    let cells = |row: &Row| {
        let mut cells =
            vec![row.server.clone(), row.transport.clone(), row.disk.clone(), row.replicas.to_string()];
        if mixed {
            cells.push(row.replica.clone());
        }
        cells.extend(figures(row));
        cells
    };
    let breaks = (1..rows.len())
        .filter(|&i| (&rows[i].disk, rows[i].replicas) != (&rows[i - 1].disk, rows[i - 1].replicas))
        .collect();
    Table { columns, rows: rows.iter().map(cells).collect(), breaks }
}

fn figures(row: &Row) -> [String; 11] {
    let sync = match (row.sync_s, &row.error) {
        (Some(s), _) => number(s, 3),
        (None, Some(_)) => "failed".into(),
        (None, None) => "-".into(),
    };
    let latency = |pick: fn(&crate::latency::Percentiles) -> f64| optional(row.probe.as_ref().map(pick), 2);
    [
        sync,
        optional(row.first_byte_ms, 1),
        optional(row.disk_mb, 1),
        optional(row.over_rest_mb, 1),
        optional(row.cpu_s, 2),
        latency(|p| p.p50_ms),
        latency(|p| p.p99_ms),
        latency(|p| p.p999_ms),
        latency(|p| p.worst_ms),
        optional(row.machine_ms, 2),
        if row.sync_s.is_some() { crate::dataset::group_digits(row.writes) } else { "-".into() },
    ]
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
