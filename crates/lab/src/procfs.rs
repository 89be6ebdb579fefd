//! What the kernel tells of a process: descriptors, sockets, threads, memory, processor time.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Length of a tick of `/proc/PID/stat`: USER_HZ, which is 100 on every Linux this lab runs on.
const TICK: Duration = Duration::from_millis(10);

/// A process at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Open descriptors.
    pub descriptors: usize,
    /// Those that are sockets.
    pub sockets: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, KiB.
    pub resident_kib: u64,
    /// Processor time used since its start, in ticks of 10 ms.
    pub cpu_ticks: u64,
}

impl Sample {
    /// Reads the state of process `pid`.
    ///
    /// # Errors
    /// When there is no such process, or it belongs to somebody else.
    pub fn of(pid: u32) -> Result<Self> {
        let dir = Path::new("/proc").join(pid.to_string());
        let (mut descriptors, mut sockets) = (0, 0);
        for entry in fs::read_dir(dir.join("fd")).with_context(|| format!("process {pid} is gone"))? {
            descriptors += 1;
            // A descriptor may close between the listing and the reading.
            if fs::read_link(entry?.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")) {
                sockets += 1;
            }
        }
        let status = fs::read_to_string(dir.join("status"))?;
        Ok(Self {
            descriptors,
            sockets,
            threads: usize::try_from(status_field(&status, "Threads:")?)?,
            resident_kib: status_field(&status, "VmRSS:")?,
            cpu_ticks: cpu_ticks(&fs::read_to_string(dir.join("stat"))?)?,
        })
    }

    /// Share of one processor used between `self` and the later sample, `elapsed` apart (0.001 = 0.1 %).
    #[must_use]
    pub fn cpu_share_until(&self, later: &Self, elapsed: Duration) -> f64 {
        let used = TICK.as_secs_f64() * later.cpu_ticks.saturating_sub(self.cpu_ticks) as f64;
        used / elapsed.as_secs_f64()
    }
}

/// Processes whose main thread is in the network namespace that `handle` (a file of `/run/netns`) stands for.
#[must_use]
pub fn processes_in(handle: &fs::File) -> Vec<u32> {
    let Ok(wanted) = handle.metadata() else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|ns| (ns.dev(), ns.ino()) == (wanted.dev(), wanted.ino()))
        })
        .collect()
}

fn status_field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let number = line.split_whitespace().next().with_context(|| format!("{name} is empty"))?;
    Ok(number.parse()?)
}

fn cpu_ticks(stat: &str) -> Result<u64> {
    // The name of the program, in parentheses, may hold spaces: count the fields from its end (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(')').context("stat without a name")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || -> Result<u64> { Ok(fields.next().context("stat is short")?.parse()?) };
    Ok(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::{Sample, cpu_ticks};

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 17 25 0 0 20 0 3 0 100 1000 10";
        assert_eq!(cpu_ticks(stat).expect("it is well formed"), 42);
    }

    #[test]
    fn this_process_has_descriptors_threads_and_memory() {
        let sample = Sample::of(std::process::id()).expect("we run");
        assert!(sample.descriptors >= 3 && sample.threads >= 1 && sample.resident_kib > 100, "{sample:?}");
    }
}
