//! Reports in files.

use crate::error::{Doing, Result};
use crate::json;
use serde::Serialize;
use std::path::Path;

/// Writes a report to a file, and says so.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).doing(|| format!("writing {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

/// Writes a report as JSON, where that is wanted.
pub(crate) fn write_json(path: Option<&Path>, report: &impl Serialize) -> Result<()> {
    match path {
        Some(path) => write(path, &json::text(report)?),
        None => Ok(()),
    }
}
