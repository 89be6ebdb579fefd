//! Paired devices find each other after both restarted, also a day later and with clocks a day apart (acceptance line 3).

use std::time::Duration;

use anyhow::Result;

use super::pairing::pair;
use super::{Options, world::World};
use crate::clock::move_by_days;
use crate::report::Report;
use crate::stats::Summary;

/// How long a ping may take from the restart on: one failed try by a remembered address, then the DHT.
const PING_LIMIT: Duration = Duration::from_secs(30);

/// How many days the programs' clocks are ahead in each case, alice's and bob's.
const CASES: [(&str, i64, i64); 4] =
    [("both restarted", 0, 0), ("both a day later", 1, 1), ("alice a day ahead", 1, 0), ("bob a day ahead", 0, 1)];

/// Pairs once, then restarts both under each case's clocks and pings both ways, `runs` times.
///
/// # Errors
/// When the lab cannot be made, the first pairing fails, or the clock cannot be moved.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::new(options)?;
    let (mut alice, mut bob) = world.warm_pair(0)?;
    pair(&alice, &bob, options.gap)?;
    let ids = (alice.status()?.id, bob.status()?.id);
    let mut report =
        Report::of_times("ping after restart, no code; the first ping finds the other, the answer uses its link");
    for (case, alice_clock, bob_clock) in CASES {
        let (mut first, mut back, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..options.runs {
            alice.stop()?;
            bob.stop()?;
            move_by_days(&mut alice, alice_clock)?;
            move_by_days(&mut bob, bob_clock)?;
            alice.start_daemon()?;
            bob.start_daemon()?;
            let mut ways = [(&alice, &ids.1, &mut first), (&bob, &ids.0, &mut back)];
            if run % 2 == 1 {
                ways = [(&bob, &ids.0, &mut first), (&alice, &ids.1, &mut back)];
            }
            for (from, to, times) in ways {
                match from.ping(to, PING_LIMIT) {
                    Ok(time) => times.push(time),
                    Err(error) => errors.push(format!("from {}: {error:#}", from.host().name())),
                }
            }
        }
        report.times(&format!("{case}: first ping"), Summary::of(&first));
        report.times(&format!("{case}: ping back"), Summary::of(&back));
        let seen = format!("{} of {} pings {}", first.len() + back.len(), options.runs * 2, errors.join("; "));
        report.check(&format!("{case}: ping works both ways"), errors.is_empty(), seen);
    }
    Ok(report)
}
