//! The page's charts, as inline SVG: bars for amounts, dots on a logarithmic axis for latencies.
//!
//! Colours come from the page's style sheet by class, so that one drawing is right on light and dark.

use crate::html::escape;
use crate::row::Row;
use crate::table::number;
use std::fmt::Write as _;

const WIDTH: f64 = 600.0;
/// Where bars begin, right of their names.
const LEFT: f64 = 148.0;
/// Room for the number after the longest bar.
const RIGHT: f64 = 66.0;
const LINE: f64 = 22.0;
const GROUP_HEAD: f64 = 26.0;
const GROUP_GAP: f64 = 10.0;
const BAR: f64 = 13.0;

/// Rows that share disk and number of replicas, with the group's title.
struct Group<'a> {
    title: String,
    rows: Vec<&'a Row>,
}

fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in rows {
        let plural = if row.replicas == 1 { "replica" } else { "replicas" };
        let disk =
            if row.disk == "unlimited" { "unlimited disk".into() } else { format!("disk {}", row.disk) };
        let title = format!("{disk}, {} {plural}", row.replicas);
        match groups.iter_mut().find(|group| group.title == title) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { title, rows: vec![row] }),
        }
    }
    groups
}

/// Servers in the order they appear.
pub(crate) fn servers(rows: &[Row]) -> Vec<&str> {
    let mut servers: Vec<&str> = Vec::new();
    for row in rows {
        if !servers.contains(&row.server.as_str()) {
            servers.push(&row.server);
        }
    }
    servers
}

/// Lays out the groups, with upright lines at `lines` behind each, drawing each row by `mark` at its
/// vertical middle; returns drawing and height.
fn lay_out(
    rows: &[Row],
    top: f64,
    lines: &[f64],
    mut mark: impl FnMut(&mut String, &Row, f64),
) -> (String, f64) {
    let mut out = String::new();
    let mut y = top;
    for group in groups(rows) {
        let _ =
            write!(out, r#"<text class="group" x="0" y="{:.1}">{}</text>"#, y + 15.0, escape(&group.title));
        y += GROUP_HEAD;
        let end = y + LINE * group.rows.len() as f64;
        for x in lines {
            let _ = write!(out, r#"<line class="axis" x1="{x:.1}" y1="{y:.1}" x2="{x:.1}" y2="{end:.1}"/>"#);
        }
        for row in group.rows {
            let middle = y + LINE / 2.0;
            let name = format!("{} {}", row.server, row.transport);
            let _ = write!(
                out,
                r#"<text class="name" x="{:.1}" y="{:.1}">{}</text>"#,
                LEFT - 10.0,
                middle + 4.0,
                escape(&name)
            );
            mark(&mut out, row, middle);
            y += LINE;
        }
        y += GROUP_GAP;
    }
    (out, y)
}

fn svg(label: &str, body: &str, height: f64) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{}">{body}</svg>"#,
        escape(label)
    )
}

/// A server's colour: Sluice has the first, whoever else is there takes turns with the others.
pub(crate) fn colour(servers: &[&str], server: &str) -> usize {
    if server == "sluice" {
        return 0;
    }
    let peers = servers.iter().filter(|name| **name != "sluice");
    1 + peers.take_while(|name| **name != server).count() % 3
}

/// A bar chart of one figure.
pub(crate) fn bars(rows: &[Row], label: &str, unit: &str, figure: impl Fn(&Row) -> Option<f64>) -> String {
    let servers = servers(rows);
    let most = rows.iter().filter_map(&figure).fold(0.0, f64::max);
    let scale = if most > 0.0 { (WIDTH - LEFT - RIGHT) / most } else { 0.0 };
    let (body, height) = lay_out(rows, 0.0, &[LEFT], |out, row, middle| {
        let Some(value) = figure(row) else {
            let why = if row.error.is_some() { "failed" } else { "-" };
            let _ = write!(out, r#"<text class="value" x="{LEFT}" y="{:.1}">{why}</text>"#, middle + 4.0);
            return;
        };
        // Nothing has no bar, anything else can be seen.
        let width = if value < 0.005 { 0.0 } else { (value * scale).max(1.5) };
        let text = amount(value);
        let _ = write!(
            out,
            r#"<path class="s{}" d="{}"><title>{}: {text} {unit}</title></path><text class="value" x="{:.1}" y="{:.1}">{text}</text>"#,
            colour(&servers, &row.server),
            rounded(LEFT, middle - BAR / 2.0, width, BAR),
            escape(&format!("{} {}", row.server, row.transport)),
            LEFT + width + 6.0,
            middle + 4.0,
        );
    });
    svg(label, &body, height)
}

/// A bar whose far end is rounded; its near end stands on the axis.
fn rounded(x: f64, y: f64, width: f64, height: f64) -> String {
    let r = 3.0_f64.min(width);
    format!(
        "M{x:.1} {y:.1}h{:.1}q{r:.1} 0 {r:.1} {r:.1}v{:.1}q0 {r:.1} -{r:.1} {r:.1}h-{:.1}z",
        width - r,
        height - 2.0 * r,
        width - r
    )
}

/// A number short enough to stand behind a bar.
fn amount(value: f64) -> String {
    if value < 0.005 {
        "0".into()
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        number(value, 2)
    }
}

/// A chart of each row's percentiles on a logarithmic axis.
pub(crate) fn latencies(rows: &[Row], label: &str) -> String {
    const TOP: f64 = 24.0;
    let servers = servers(rows);
    let probes: Vec<_> = rows.iter().filter_map(|row| row.probe).collect();
    let least = probes.iter().map(|p| p.p50_ms).fold(f64::MAX, f64::min).clamp(0.001, 10.0);
    let most = probes.iter().map(|p| p.worst_ms).fold(least * 2.0, f64::max);
    let (low, high) = (least.log10().floor(), most.log10().ceil());
    let at = |ms: f64| {
        let place = (ms.max(0.0001).log10() - low) / (high - low);
        LEFT + place.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let decades: Vec<_> = (low as i32..=high as i32).map(|power| 10f64.powi(power)).collect();
    let lines: Vec<_> = decades.iter().map(|&ms| at(ms)).collect();
    let (body, height) = lay_out(rows, TOP, &lines, |out, row, middle| {
        let Some(p) = row.probe else {
            let _ = write!(out, r#"<text class="value" x="{LEFT}" y="{:.1}">-</text>"#, middle + 4.0);
            return;
        };
        let c = colour(&servers, &row.server);
        let _ = write!(
            out,
            r#"<g><title>{} {}: p50 {}, p99 {}, p99.9 {}, worst {} ms ({} requests)</title>"#,
            escape(&row.server),
            escape(&row.transport),
            amount(p.p50_ms),
            amount(p.p99_ms),
            amount(p.p999_ms),
            amount(p.worst_ms),
            p.samples
        );
        let (from, to) = (at(p.p50_ms), at(p.worst_ms));
        let _ = write!(
            out,
            r#"<line class="range t{c}" x1="{from:.1}" y1="{middle:.1}" x2="{to:.1}" y2="{middle:.1}"/>"#
        );
        for (ms, class, r) in
            [(p.p50_ms, "hollow", 3.5), (p.p99_ms, "s", 3.0), (p.p999_ms, "s", 4.0), (p.worst_ms, "s", 5.5)]
        {
            let class = if class == "hollow" { format!("hollow t{c}") } else { format!("dot s{c}") };
            let _ = write!(out, r#"<circle class="{class}" cx="{:.1}" cy="{middle:.1}" r="{r}"/>"#, at(ms));
        }
        let _ = write!(
            out,
            r#"</g><text class="value" x="{:.1}" y="{:.1}">{}</text>"#,
            to + 10.0,
            middle + 4.0,
            amount(p.worst_ms)
        );
    });
    let mut scale = String::new();
    for (ms, x) in decades.iter().zip(&lines) {
        let _ = write!(scale, r#"<text class="scale" x="{x:.1}" y="12">{ms} ms</text>"#);
    }
    svg(label, &(scale + &body), height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Percentiles;

    fn rows() -> Vec<Row> {
        let row = |server: &str, replicas, sync_s| Row {
            server: server.into(),
            transport: "disk<>".into(),
            disk: "50 MB/s".into(),
            replicas,
            sync_s,
            probe: sync_s.map(|_| Percentiles {
                samples: 5,
                p50_ms: 0.1,
                p99_ms: 0.5,
                p999_ms: 3.0,
                worst_ms: 42.0,
            }),
            error: sync_s.is_none().then(|| "x".into()),
            ..Row::default()
        };
        vec![row("sluice", 1, Some(0.5)), row("redis", 1, Some(14.0)), row("sluice", 4, None)]
    }

    #[test]
    fn every_row_has_its_bar_in_its_group_and_names_are_escaped() {
        let chart = bars(&rows(), "Sync time", "s", |row| row.sync_s);
        assert_eq!(chart.matches("<path").count(), 2);
        assert_eq!(chart.matches(r#"class="group""#).count(), 2);
        assert!(chart.contains("failed") && chart.contains("disk&lt;&gt;") && !chart.contains("disk<>"));
        assert!(chart.contains(r#"class="s1""#));
    }

    #[test]
    fn latencies_have_four_dots_each_and_decades_as_scale() {
        let chart = latencies(&rows(), "Latency");
        assert_eq!(chart.matches("<circle").count(), 8);
        assert!(chart.contains("0.1 ms") && chart.contains("100 ms"));
        assert!(!chart.contains("NaN") && !chart.contains("inf"));
    }

    #[test]
    fn nothing_measured_still_draws() {
        let chart =
            latencies(&[Row::default()], "Latency") + &bars(&[Row::default()], "x", "s", |r| r.sync_s);
        assert!(!chart.contains("NaN") && !chart.contains("inf"));
    }
}
