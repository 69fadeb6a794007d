//! The report as a page: one file, no script, nothing fetched, readable on light and dark.

use crate::charts;
use crate::json::Report;
use crate::row::{self, Row};
use crate::table::{self, Side};
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(crate) fn page(report: &Report) -> String {
    let setting = &report.setting;
    let rows = report.shown.as_slice();
    let mut body = String::new();
    let _ = write!(
        body,
        "<h1>What a full sync costs</h1>\n<p>{}</p>\n<p><code>sluice-bench {}</code></p>\n{}",
        escape(&setting.heading()),
        escape(&setting.command),
        legend(rows)
    );
    let memory = format!(
        "The primary's peak anonymous memory over what it had at rest, in MB, children included ({}).",
        setting.memory_method
    );
    let latency = format!(
        "{} during the sync, counted from when each was due. On each line from left to right: the median (hollow), \
         p99, p99.9 and the worst (largest, its ms behind it).",
        setting.probe
    );
    let cards = [
        (
            "Sync time",
            "Seconds from REPLICAOF until the last replica is in sync.".to_owned(),
            charts::bars(rows, "Sync time", "s", |row| row.sync_s),
        ),
        ("Memory over rest", memory, charts::bars(rows, "Memory over rest", "MB", |row| row.over_rest_mb)),
        ("Latency meanwhile", latency, charts::latencies(rows, "Latency percentiles")),
        (
            "Written to disk",
            "MB the primary wrote to its disk, children included.".to_owned(),
            charts::bars(rows, "Disk bytes", "MB", |row| row.disk_mb),
        ),
    ];
    body.push_str("<div class=\"cards\">\n");
    for (title, text, chart) in cards {
        let _ = writeln!(
            body,
            "<section class=\"card\"><h2>{title}</h2><p>{}</p>{chart}</section>",
            escape(&text)
        );
    }
    body.push_str("</div>\n");
    body.push_str(&all_figures(report));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>What a full sync costs</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn legend(rows: &[Row]) -> String {
    let servers = charts::servers(rows);
    let marks: String = servers
        .iter()
        .map(|server| {
            format!("<span class=\"c{}\"><b>{}</b></span>", charts::colour(&servers, server), escape(server))
        })
        .collect();
    format!("<div class=\"legend\">{marks}</div>\n")
}

fn all_figures(report: &Report) -> String {
    let table = table::table(&report.shown);
    let class = |side: Side| if side == Side::Right { " class=\"right\"" } else { "" };
    let mut out = String::from("<section class=\"card wide\"><h2>All figures</h2>\n<table><thead><tr>");
    for &(name, side) in &table.columns {
        let _ = write!(out, "<th{}>{}</th>", class(side), escape(name));
    }
    out.push_str("</tr></thead><tbody>\n");
    for (i, row) in table.rows.iter().enumerate() {
        out.push_str(if table.breaks.contains(&i) { "<tr class=\"break\">" } else { "<tr>" });
        for (cell, &(_, side)) in row.iter().zip(&table.columns) {
            let _ = write!(out, "<td{}>{}</td>", class(side), escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
    let failures = row::failures(&report.shown);
    let notes: Vec<_> = report.setting.notes.iter().cloned().chain(failures).collect();
    if !notes.is_empty() {
        let items: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
        let _ = writeln!(out, "<ul>{items}</ul>");
    }
    out.push_str("</section>\n");
    out
}

/// Text as HTML has it.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Setting;

    #[test]
    fn the_page_is_complete_in_itself() {
        let setting = Setting {
            version: "0",
            command: "sync --html <x>".into(),
            dataset: "5 strings".into(),
            probe: "GET",
            probe_hz: 1000,
            write_hz: 10_000,
            processors: 2,
            kernel: "6".into(),
            memory_method: "cgroup",
            notes: vec!["a & b".into()],
        };
        let row =
            Row { server: "sluice".into(), replica: "sluice".into(), sync_s: Some(1.0), ..Row::default() };
        let page = page(&Report { setting, shown: vec![row.clone()], rows: vec![row] });
        assert!(page.contains("&lt;x&gt;") && page.contains("a &amp; b"));
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), 4);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
