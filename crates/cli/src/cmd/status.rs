//! `status`: the running device.

use handfast::Error;

use super::Context;
use crate::daemon::Client;
use crate::render::status::StatusView;

/// Runs the command.
pub(super) async fn run(context: &Context) -> Result<u8, Error> {
    let client = Client::of(&context.instance);
    let view = StatusView::new(client.status().await?, client.devices().await?);
    context.out.show(&view, StatusView::text);
    Ok(0)
}
