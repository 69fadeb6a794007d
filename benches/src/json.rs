//! The report as data, and its JSON.

use crate::dataset::group_digits;
use crate::error::{Error, Result};
use crate::row::Row;
use serde::Serialize;

/// What was the same for all cases.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    pub(crate) version: &'static str,
    /// The arguments given.
    pub(crate) command: String,
    pub(crate) dataset: String,
    /// What the probe sends.
    pub(crate) probe: &'static str,
    pub(crate) probe_hz: u64,
    pub(crate) write_hz: u64,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    pub(crate) memory_method: &'static str,
    pub(crate) notes: Vec<String>,
}

impl Setting {
    /// In one line.
    pub(crate) fn heading(&self) -> String {
        let writes = match self.write_hz {
            0 => String::new(),
            rate => format!(" and {} overwrites", group_digits(rate)),
        };
        format!(
            "{}; {} {}{writes} a second; {} processors, Linux {}, memory by {}",
            self.dataset,
            group_digits(self.probe_hz),
            self.probe,
            self.processors,
            self.kernel,
            self.memory_method
        )
    }
}

/// Everything there is to report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) setting: Setting,
    /// A row a case: its round of median sync time.
    #[serde(rename = "cases")]
    pub(crate) shown: Vec<Row>,
    /// Every run.
    #[serde(rename = "runs")]
    pub(crate) rows: Vec<Row>,
}

/// A report as JSON.
pub(crate) fn text(report: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|error| Error::Usage(format!("writing JSON: {error}")))
}
