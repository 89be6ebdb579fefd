//! Which device of the list of `pair nearby` a person means.

use handfast_proto::cause::Cause;
use handfast_proto::lan::NearbyDevice;
use handfast_proto::session::SelectError;

use crate::Error;

/// The device with this id or name. Anybody can call itself anything, so a name that two have is no choice.
///
/// # Errors
/// `usage` if none or several fit.
pub(super) fn find<'a>(list: &'a [NearbyDevice], wanted: &str) -> Result<&'a NearbyDevice, Error> {
    let with_id = list.iter().find(|d| d.nid.shown().eq_ignore_ascii_case(wanted));
    if let Some(device) = with_id {
        return Ok(device);
    }
    let named: Vec<&NearbyDevice> =
        list.iter().filter(|d| d.name.as_ref().is_some_and(|name| name.as_str() == wanted)).collect();
    match named.as_slice() {
        [] => Err(SelectError::Unknown.into()),
        [device] => Ok(device),
        several => {
            let ids: Vec<String> = several.iter().map(|d| d.nid.shown()).collect();
            let text = format!("several devices nearby call themselves that: {}", ids.join(", "));
            Err(Error::because(Cause::Usage, text).with_hint("select one by its id, and look at the emoji with care"))
        }
    }
}

/// The next step after a failure that says nothing of the network.
pub(super) const AGAIN: &str = "run `handfast pair nearby` again on both devices";

/// A failure of `pair nearby`, where there is no code to check or to make anew.
pub(super) fn failure(cause: Cause) -> Error {
    let error = Error::of(cause);
    if cause == Cause::AuthenticationFailed {
        let text = "the other device broke the pairing off, or is another one than it said";
        return Error { text: text.to_owned(), ..error }.with_hint(AGAIN);
    }
    if cause == Cause::Unreachable {
        let text = "the device is not ready to pair any more, or cannot be reached";
        return Error { text: text.to_owned(), ..error }.with_hint(AGAIN);
    }
    let is_of_a_code = matches!(
        cause,
        Cause::Rejected | Cause::Cancelled | Cause::TimedOut | Cause::WrongDevice | Cause::ConnectionLost
    );
    if is_of_a_code { error.with_hint(AGAIN) } else { error }
}

#[cfg(test)]
mod tests {
    use handfast_proto::wire::beacon::Nid;
    use handfast_proto::wire::info::DeviceName;

    use super::*;

    fn device(n: u8, name: &str) -> NearbyDevice {
        let ip = "192.168.1.9".parse().expect("an address");
        let name = Some(DeviceName::clean(name));
        NearbyDevice {
            nid: Nid([n; 16]),
            name,
            ip,
            own: Vec::new(),
            addresses: Vec::new(),
            spki: [n; 32],
            answered: true,
        }
    }

    #[test]
    fn a15_a_name_that_two_devices_give_themselves_selects_neither_and_an_id_selects_one() {
        let list = [device(1, "kitchen"), device(2, "hall"), device(3, "kitchen")];
        let (one, three) = (list[0].nid.shown(), list[2].nid.shown());
        assert_eq!(find(&list, "hall").expect("one"), &list[1]);
        assert_eq!(find(&list, &three.to_uppercase()).expect("one"), &list[2]);
        let error = find(&list, "kitchen").expect_err("two");
        assert!(error.text.contains(&one) && error.text.contains(&three), "{error}");
        assert_eq!((error.cause, find(&list, "attic").expect_err("none").cause), (Cause::Usage, Cause::Usage));
    }

    #[test]
    fn a15_a_device_cannot_take_the_place_of_another_by_calling_itself_like_its_id() {
        let honest = device(1, "kitchen");
        let liar = device(2, &honest.nid.shown());
        let list = [liar, honest];
        assert_eq!(find(&list, &list[1].nid.shown()).expect("one").nid, Nid([1; 16]));
    }
}
