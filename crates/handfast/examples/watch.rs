//! Watching events: two readers follow one device through a code that nobody uses, one of them from the start, one late.
//!
//! Run with `cargo run -p handfast --example watch`. Nothing is sent anywhere: no bootstrap node is configured.

use std::error::Error;
use std::io::Write as _;

use handfast::{Address, Builder, PairOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let homes = tempfile::tempdir()?;
    let listen: Address = "/ip4/127.0.0.1/udp/0/quic-v1".parse()?;
    let device = Builder::new(homes.path().join("device")).name("lonely").listen(listen).start().await?;

    let mut early = device.events(0);
    let code = device.generate(PairOptions::default()).await?;
    device.cancel(Some(code.session.clone())).await?;
    let mut late = device.events(0);

    let mut out = std::io::stdout();
    for reader in [&mut early, &mut late] {
        while let Some(event) = reader.next().await {
            // The same JSON that `handfast events` prints.
            writeln!(out, "{}", serde_json::to_string(&*event)?)?;
            if event.kind.is_terminal() {
                break;
            }
        }
    }
    device.stop().await;
    Ok(())
}
