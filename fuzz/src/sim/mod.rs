//! The simulation of `crates/proto/tests`, without its scenarios.

#[path = "../../../crates/proto/tests/proto/sim/check.rs"]
pub(crate) mod check;
#[path = "../../../crates/proto/tests/proto/sim/device.rs"]
pub(crate) mod device;
#[path = "../../../crates/proto/tests/proto/sim/dht.rs"]
pub(crate) mod dht;
#[path = "../../../crates/proto/tests/proto/sim/dice.rs"]
pub(crate) mod dice;
#[path = "../../../crates/proto/tests/proto/sim/disk.rs"]
pub(crate) mod disk;
#[path = "../../../crates/proto/tests/proto/sim/ledger.rs"]
pub(crate) mod ledger;
#[path = "../../../crates/proto/tests/proto/sim/meddler.rs"]
pub(crate) mod meddler;
#[path = "../../../crates/proto/tests/proto/sim/net.rs"]
pub(crate) mod net;
#[path = "../../../crates/proto/tests/proto/sim/rough.rs"]
pub(crate) mod rough;
#[path = "../../../crates/proto/tests/proto/sim/trace.rs"]
pub(crate) mod trace;
#[path = "../../../crates/proto/tests/proto/sim/world.rs"]
pub(crate) mod world;
