//! Writes the seeds of the fuzz targets into folders, one a target: `fuzz-seeds <folder>`.

use sluice_tests::fuzz::TARGETS;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: fuzz-seeds <folder>");
        return Ok(ExitCode::FAILURE);
    };
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (n, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n}")), seed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
