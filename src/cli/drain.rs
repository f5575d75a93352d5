//! `keyward drain`: for the `preStop` hook of a container.
//!
//! Enters: nothing, or the number of a process. Leaves: SIGUSR1 to the proxy that runs in the same container. A signal
//! and no endpoint: whoever reaches the Pod could call an endpoint, and take the Pod out of service by it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use super::Failure;

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// The process to tell, where more than one proxy runs here
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
}

pub(super) fn run(args: &DrainArgs) -> Result<(), Failure> {
    let own = i32::try_from(std::process::id()).map_err(Failure::other)?;
    let id = match args.pid {
        Some(id) => id,
        None => only(&proxies(Path::new("/proc"), own)?)?,
    };
    let pid = Pid::from_raw(id).ok_or_else(|| Failure::Other(format!("{id} is no process")))?;
    kill_process(pid, Signal::USR1).map_err(|error| Failure::Other(format!("cannot signal process {id}: {error}")))
}

fn only(found: &[i32]) -> Result<i32, Failure> {
    match found {
        [id] => Ok(*id),
        [] => Err(Failure::Other("no `keyward run` of this user is running here".to_owned())),
        several => Err(Failure::Other(format!("several proxies run here ({several:?}): choose one by --pid"))),
    }
}

/// The processes that are `run` of the same program file as the process `own`. Of other users' processes the file is
/// not shown, and of processes in other containers none.
fn proxies(proc: &Path, own: i32) -> Result<Vec<i32>, Failure> {
    let program = |id: i32| {
        let file = fs::metadata(proc.join(id.to_string()).join("exe")).ok()?;
        Some((file.dev(), file.ino()))
    };
    let ours = program(own).ok_or_else(|| Failure::Other("/proc does not show this program".to_owned()))?;
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).map_err(Failure::other)?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if id == own || program(id) != Some(ours) {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).nth(1) == Some(b"run") {
            found.push(id);
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_one_proxy_of_the_same_program_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let process = |id: i32, program: &str, command: &str| {
            let folder = dir.path().join(id.to_string());
            fs::create_dir(&folder).unwrap();
            symlink(dir.path().join(program), folder.join("exe")).unwrap();
            fs::write(folder.join("cmdline"), command.replace(' ', "\0")).unwrap();
        };
        for program in ["keyward", "other"] {
            fs::write(dir.path().join(program), program).unwrap();
        }
        fs::create_dir(dir.path().join("sys")).unwrap();
        process(30, "keyward", "/keyward drain");
        process(31, "keyward", "/keyward keys list");
        process(32, "other", "other run");
        process(33, "missing", "keyward run");
        let found = || proxies(dir.path(), 30).unwrap();
        assert_eq!(found(), [0; 0]);
        assert!(matches!(only(&found()), Err(Failure::Other(why)) if why.contains("no `keyward run`")));
        process(7, "keyward", "/keyward run --config proxy.yaml");
        assert_eq!(only(&found()).unwrap(), 7);
        process(8, "keyward", "/keyward run");
        assert!(matches!(only(&found()), Err(Failure::Other(why)) if why.contains("[7, 8]")));
    }
}
