//! Writes the seeds of every fuzz target and prints their names: `seeds STORE CORPORA`, one folder a target.

use std::fs;
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(store), Some(corpora)) = (arguments.next(), arguments.next()) else {
        return Err(std::io::Error::other("seeds STORE CORPORA"));
    };
    for (number, (target, bytes)) in rfs_store::fuzzing::seeds(&store)?.into_iter().enumerate() {
        let folder = corpora.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{number}")), bytes)?;
    }
    for target in &rfs_store::fuzzing::TARGETS {
        println!("{}", target.name);
    }
    Ok(())
}
