//! What is going on, on stderr: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// The progress over all cases.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    done: usize,
    case: String,
}

impl Progress {
    /// Of so many cases.
    pub(crate) fn new(total: usize) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            if let Ok(style) = ProgressStyle::with_template(
                "{spinner:.cyan} [{pos}/{len}] {bar:24.cyan/dim} {elapsed:>4}  {msg}",
            ) {
                bar.set_style(style.progress_chars("━━─"));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Progress { bar, total, done: 0, case: String::new() }
    }

    /// A case begins.
    pub(crate) fn begin(&mut self, case: String) {
        match &self.bar {
            Some(bar) => bar.set_message(case.clone()),
            None => eprintln!("[{}/{}] {case}", self.done + 1, self.total),
        }
        self.case = case;
    }

    /// Something begins within the case.
    pub(crate) fn stage(&self, stage: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {stage}", self.case));
        }
    }

    /// The case is done.
    pub(crate) fn end(&mut self, summary: &str) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.println(format!("  {}: {summary}", self.case));
                bar.inc(1);
            }
            None => eprintln!("        {summary}"),
        }
    }

    /// All are.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
