//! The result of one run: a row of the table, an object of the JSON, a mark in the charts.

use crate::latency::Percentiles;
use serde::Serialize;

/// One run. Figures that could not be had are `None`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    #[serde(skip)]
    pub(crate) place: usize,
    pub(crate) round: u16,
    pub(crate) server: String,
    pub(crate) transport: String,
    pub(crate) disk: String,
    pub(crate) replicas: u16,
    /// The program used as replica.
    pub(crate) replica: String,
    /// Why there are no figures, or what is wrong with them.
    pub(crate) error: Option<String>,
    pub(crate) sync_s: Option<f64>,
    pub(crate) first_byte_ms: Option<f64>,
    pub(crate) disk_mb: Option<f64>,
    pub(crate) rest_mb: f64,
    pub(crate) over_rest_mb: Option<f64>,
    pub(crate) cpu_s: Option<f64>,
    /// The probe during the sync.
    pub(crate) probe: Option<Percentiles>,
    /// The probe just before it.
    pub(crate) probe_at_rest: Option<Percentiles>,
    /// The worst stall of the machine itself during the sync, in ms: how late a real-time thread with nothing to do woke.
    pub(crate) machine_ms: Option<f64>,
    /// Whether the probe had real-time priority.
    pub(crate) probe_realtime: bool,
    pub(crate) writes: u64,
    /// Writes that fell due meanwhile.
    pub(crate) writes_due: u64,
    /// Full syncs the primary counted; more than replicas means some began again.
    pub(crate) full_syncs: Option<u64>,
    /// INFO sync of the primary afterwards, where there is such a section.
    pub(crate) sync_info: Option<std::collections::BTreeMap<String, String>>,
}

impl Row {
    /// Which case it is of.
    pub(crate) fn name(&self) -> String {
        let plural = if self.replicas == 1 { "replica" } else { "replicas" };
        format!("{} {}, disk {}, {} {plural}", self.server, self.transport, self.disk, self.replicas)
    }

    /// In a few words, for the progress.
    pub(crate) fn summary(&self) -> String {
        match (&self.error, self.sync_s) {
            (Some(error), _) => format!("failed: {}", error.lines().next().unwrap_or_default()),
            (None, Some(sync)) => {
                let worst = self.probe.map_or_else(|| "-".into(), |p| format!("{:.1}", p.worst_ms));
                let memory = self.over_rest_mb.unwrap_or_default();
                let machine =
                    self.machine_ms.map_or_else(String::new, |ms| format!(" (the machine itself {ms:.1})"));
                format!("{sync:.2} s, memory +{memory:.1} MB, worst {worst} ms{machine}")
            }
            (None, None) => "no figures".into(),
        }
    }
}

/// What went wrong, each thing once, with the cases it happened in.
pub(crate) fn failures(rows: &[Row]) -> Vec<String> {
    let mut failures: Vec<(&str, Vec<String>)> = Vec::new();
    for row in rows {
        let Some(error) = row.error.as_deref() else { continue };
        match failures.iter_mut().find(|(seen, _)| *seen == error) {
            Some((_, cases)) => cases.push(row.name()),
            None => failures.push((error, vec![row.name()])),
        }
    }
    failures.iter().map(|(error, cases)| format!("{}: {error}", cases.join("; "))).collect()
}

/// Of the rounds of each case the one of median sync time, in the order of the plan.
pub(crate) fn medians(rows: &[Row]) -> Vec<Row> {
    let places = rows.iter().map(|row| row.place + 1).max().unwrap_or(0);
    (0..places)
        .filter_map(|place| {
            let mut rounds: Vec<_> = rows.iter().filter(|row| row.place == place).collect();
            // Failed rounds sort last, so that one of many does not hide the figures.
            let time =
                |row: &Row| if row.error.is_some() { f64::MAX } else { row.sync_s.unwrap_or(f64::MAX) };
            rounds.sort_by(|a, b| time(a).total_cmp(&time(b)));
            let middle = rounds.len().checked_sub(1)? / 2;
            rounds.get(middle).map(|row| (*row).clone())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(place: usize, sync_s: f64) -> Row {
        Row { place, sync_s: Some(sync_s), ..Row::default() }
    }

    #[test]
    fn the_median_round_of_each_case_is_shown() {
        let rows = [row(0, 3.0), row(1, 7.0), row(0, 1.0), row(1, 9.0), row(0, 2.0), row(1, 8.0)];
        let times: Vec<_> = medians(&rows).iter().map(|r| r.sync_s.unwrap()).collect();
        assert_eq!(times, [2.0, 8.0]);
    }

    #[test]
    fn the_same_failure_is_told_once() {
        let failed = Row { error: Some("no such option".into()), ..Row::default() };
        let other = Row { error: Some("gone".into()), ..Row::default() };
        let told = failures(&[failed.clone(), row(0, 1.0), other, failed]);
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].matches("no such option").count(), 1);
    }

    #[test]
    fn a_failed_round_does_not_hide_the_others() {
        let failed = Row { error: Some("x".into()), ..Row::default() };
        let shown = medians(&[failed, row(0, 2.0)]);
        assert_eq!(shown[0].sync_s, Some(2.0));
    }
}
