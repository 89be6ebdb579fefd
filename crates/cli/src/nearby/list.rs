//! The list of devices nearby as this terminal shows it: numbered in the order in which they came, and a number is never
//! given twice.

use std::time::Duration;

use handfast::SeenDevice;
use tokio::time::Instant;

use crate::render::clean;

/// A device that was heard is asked for its name at once; only if that fails, it is shown without one.
const NAME_WAIT: Duration = Duration::from_secs(1);

/// Others may have the name that was asked for: they are waited for this long.
const NAMESAKES_WAIT: Duration = Duration::from_millis(1_500);

/// A device that has no name by then has none to tell.
const NAMELESS_WAIT: Duration = Duration::from_secs(4);

/// Numbers that are given; whoever has seen as many does not find anything by number any more.
const MAX_NUMBERS: usize = 999;

/// The devices.
#[derive(Default)]
pub(crate) struct List {
    entries: Vec<Entry>,
}

struct Entry {
    device: SeenDevice,
    since: Instant,
    shown: bool,
    gone: bool,
}

impl List {
    /// A device is there, or says more of itself; gives the line to show.
    pub(crate) fn seen(&mut self, device: &SeenDevice) -> Option<String> {
        let index = match self.entries.iter().position(|e| e.device.id == device.id) {
            Some(index) => {
                let known = &mut self.entries[index];
                let is_news = known.gone || known.device.name != device.name || !known.shown;
                (known.device, known.gone) = (device.clone(), false);
                is_news.then_some(index)?
            }
            None if self.entries.len() < MAX_NUMBERS => {
                let since = Instant::now();
                self.entries.push(Entry { device: device.clone(), since, shown: false, gone: false });
                self.entries.len() - 1
            }
            None => return None,
        };
        if device.name.is_none() && !self.entries[index].shown {
            return None;
        }
        self.entries[index].shown = true;
        Some(self.line(index))
    }

    /// The lines for devices whose name did not come.
    pub(crate) fn nameless(&mut self) -> Vec<String> {
        let late = |e: &Entry| !e.shown && !e.gone && e.since + NAME_WAIT <= Instant::now();
        let late: Vec<usize> = (0..self.entries.len()).filter(|n| late(&self.entries[*n])).collect();
        late.iter().for_each(|n| self.entries[*n].shown = true);
        late.into_iter().map(|n| self.line(n)).collect()
    }

    /// When the next one of them is due.
    pub(crate) fn next_nameless(&self) -> Option<Instant> {
        self.entries.iter().filter(|e| !e.shown && !e.gone).map(|e| e.since + NAME_WAIT).min()
    }

    /// A device has gone; gives the line to show.
    pub(crate) fn gone(&mut self, id: &str) -> Option<String> {
        let index = self.entries.iter().position(|e| e.device.id == id && !e.gone)?;
        let entry = &mut self.entries[index];
        entry.gone = true;
        entry.shown.then(|| format!("{:>4}  {} has gone.", index + 1, called(&entry.device)))
    }

    /// The device with this number, or the only one of this name or id, if it is there and has been shown.
    pub(crate) fn meant(&self, line: &str) -> Option<&SeenDevice> {
        let (line, shown) = (line.trim(), |e: &&Entry| e.shown && !e.gone);
        if let Ok(number) = line.parse::<usize>() {
            return self.entries.get(number.checked_sub(1)?).filter(shown).map(|e| &e.device);
        }
        let is_it = |e: &&Entry| e.device.id.eq_ignore_ascii_case(line) || e.device.name.as_deref() == Some(line);
        let mut fitting = self.entries.iter().filter(shown).filter(is_it);
        fitting.next().filter(|_| fitting.next().is_none()).map(|e| &e.device)
    }

    /// When the device that is meant by an id or a name may be selected; none if there is no such device.
    pub(crate) fn wanted_at(&self, wanted: &str) -> Option<Instant> {
        let there = || self.entries.iter().filter(|e| !e.gone);
        if there().any(|e| e.device.id.eq_ignore_ascii_case(wanted)) {
            return Some(Instant::now());
        }
        let named = there().filter(|e| e.device.name.as_deref() == Some(wanted));
        let due = named.map(|e| e.since + NAMESAKES_WAIT).min()?;
        // Whoever has not said what it is called may be called the same.
        let nameless = there().filter(|e| e.device.name.is_none()).map(|e| e.since + NAMELESS_WAIT);
        Some(nameless.fold(due, Instant::max))
    }

    /// What a device is called.
    pub(crate) fn name_of(&self, id: &str) -> String {
        let entry = self.entries.iter().find(|e| e.device.id == id);
        entry.map_or_else(|| clean(id), |e| called(&e.device))
    }

    fn line(&self, index: usize) -> String {
        let device = &self.entries[index].device;
        let name = device.name.as_deref().map_or_else(|| "no name".to_owned(), clean);
        format!("{:>4}  {name}  (unverified, {}, id {})", index + 1, clean(&device.address), clean(&device.id))
    }
}

fn called(device: &SeenDevice) -> String {
    clean(device.name.as_deref().unwrap_or(&device.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, name: Option<&str>) -> SeenDevice {
        let (id, name) = (id.to_owned(), name.map(str::to_owned));
        SeenDevice { id, name, verified: false, address: "192.168.1.7".to_owned() }
    }

    #[test]
    fn a15_a_name_is_chosen_when_nobody_else_can_have_it_any_more() {
        let mut list = List::default();
        list.seen(&device("aa", Some("twin")));
        let alone = list.wanted_at("twin").expect("it is there");
        list.seen(&device("bb", None));
        assert!(list.wanted_at("twin").expect("it is there") > alone, "the other one may be called the same");
        assert!(list.wanted_at("aa").expect("an id is nobody else's") < alone);
        assert_eq!(list.wanted_at("nobody"), None);
    }

    #[test]
    fn a15_numbers_stay_with_their_devices_and_those_that_have_gone_cannot_be_chosen() {
        let mut list = List::default();
        assert_eq!(list.seen(&device("aa", None)), None, "its name may come");
        let line = list.seen(&device("bb", Some("hall"))).expect("shown");
        assert_eq!(line, "   2  hall  (unverified, 192.168.1.7, id bb)");
        assert!(list.seen(&device("aa", Some("kitchen"))).expect("shown").starts_with("   1  kitchen"));
        assert_eq!(list.seen(&device("aa", Some("kitchen"))), None, "no news");
        assert_eq!(list.meant(" 1\n").map(|d| d.id.as_str()), Some("aa"));
        assert_eq!(list.gone("aa").as_deref(), Some("   1  kitchen has gone."));
        for text in ["1", "0", "3", "-1", "", "kitchen", "attic"] {
            assert!(list.meant(text).is_none(), "{text}");
        }
        assert_eq!(list.meant("hall").map(|d| d.id.as_str()), Some("bb"));
        assert_eq!(list.meant(" BB ").map(|d| d.id.as_str()), Some("bb"));
        list.seen(&device("cc", Some("hall")));
        assert!(list.meant("hall").is_none(), "which of the two?");
        assert!(list.seen(&device("aa", Some("kitchen"))).is_some(), "it is back under its number");
        assert_eq!(list.meant("1").map(|d| d.id.as_str()), Some("aa"));
    }

    #[test]
    fn a15_an_id_is_selected_at_once_and_a_name_after_a_moment_for_its_namesakes() {
        let mut list = List::default();
        list.seen(&device("aa", Some("kitchen")));
        assert!(list.wanted_at("AA").is_some_and(|at| at <= Instant::now()));
        assert!(list.wanted_at("kitchen").is_some_and(|at| at > Instant::now()));
        assert!(list.wanted_at("hall").is_none());
    }

    #[test]
    fn attack_37_nothing_that_a_device_says_of_itself_reaches_the_terminal_raw() {
        let mut list = List::default();
        let line = list.seen(&device("aa\u{1b}", Some("a\u{1b}[2Jb\u{202e}c"))).expect("shown");
        assert!(!line.contains('\u{1b}') && !line.contains('\u{202e}'), "{line:?}");
    }
}
