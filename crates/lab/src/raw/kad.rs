//! Messages of the DHT, as bytes.

use super::frames::{frame, number, varint};

/// The protocol of the DHT.
pub(crate) const KAD: &str = "/handfast/kad/1";

/// The longest answer of a node.
pub(crate) const MESSAGE_MAX: usize = 16 * 1024;

/// What is asked, in field 1 of a message.
const TYPE: u64 = 1 << 3;
const PUT_VALUE: u8 = 0;
const GET_VALUE: u8 = 1;
const FIND_NODE: u8 = 4;

/// Fields that are bytes behind their length: of a message, of a record in it, of a node in it.
const KEY: u64 = 2 << 3 | BYTES;
const RECORD: u64 = 3 << 3 | BYTES;
const CLOSER: u64 = 8 << 3 | BYTES;
const RECORD_KEY: u64 = 1 << 3 | BYTES;
const RECORD_VALUE: u64 = 2 << 3 | BYTES;
const RECORD_PUBLISHER: u64 = 666 << 3 | BYTES;
const NODE_ID: u64 = 1 << 3 | BYTES;

/// Seconds that a record is to live, as its sender says beside it.
const RECORD_TTL: u64 = 777 << 3;

/// The low bits of a field that is bytes behind their length.
const BYTES: u64 = 2;

/// A record as it is put.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Whose it is said to be.
    pub(crate) publisher: Option<Vec<u8>>,
    /// How long it is said to live, beside what stands in it.
    pub(crate) seconds: Option<u32>,
}

impl Put {
    /// The request.
    pub(crate) fn request(&self) -> Vec<u8> {
        let mut record = [field(RECORD_KEY, &self.key), field(RECORD_VALUE, &self.value)].concat();
        if let Some(publisher) = &self.publisher {
            record.extend(field(RECORD_PUBLISHER, publisher));
        }
        if let Some(seconds) = self.seconds {
            record.extend([varint(RECORD_TTL), varint(seconds.into())].concat());
        }
        message(PUT_VALUE, &[field(KEY, &self.key), field(RECORD, &record)].concat())
    }
}

/// Asks for a record.
pub(crate) fn get(key: &[u8]) -> Vec<u8> {
    message(GET_VALUE, &field(KEY, key))
}

/// Asks for the nodes that are closest to a key.
pub(crate) fn find_node(key: &[u8]) -> Vec<u8> {
    message(FIND_NODE, &field(KEY, key))
}

/// The names of the nodes in an answer.
pub(crate) fn closer(answer: &[u8]) -> Vec<Vec<u8>> {
    fields(answer, CLOSER).iter().flat_map(|node| fields(node, NODE_ID)).map(<[u8]>::to_vec).collect()
}

/// The bytes of the record in an answer.
pub(crate) fn value(answer: &[u8]) -> Option<Vec<u8>> {
    let record = *fields(answer, RECORD).first()?;
    fields(record, RECORD_VALUE).first().map(|value| value.to_vec())
}

fn message(kind: u8, rest: &[u8]) -> Vec<u8> {
    frame(&[varint(TYPE), vec![kind], rest.to_vec()].concat())
}

fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(tag), frame(bytes)].concat()
}

/// Every field of this tag; what cannot be read ends the message.
fn fields(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let (mut rest, mut found) = (message, Vec::new());
    while let Some((tag, behind)) = number(rest)
        && let Some((length, behind)) = number(behind)
    {
        let taken = if tag & 7 == BYTES { usize::try_from(length).unwrap_or(usize::MAX) } else { 0 };
        let Some((bytes, behind)) = behind.split_at_checked(taken) else { break };
        if tag == wanted {
            found.push(bytes);
        }
        rest = behind;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Put, closer, find_node, get, value};

    #[test]
    fn messages_are_those_of_the_protocol() {
        assert_eq!(find_node(&[7, 8]), [6, 0x08, 4, 0x12, 2, 7, 8]);
        assert_eq!(get(&[7]), [5, 0x08, 1, 0x12, 1, 7]);
        let put = Put { key: vec![7], value: vec![9], publisher: None, seconds: None };
        assert_eq!(put.request(), [13, 0x08, 0, 0x12, 1, 7, 0x1a, 6, 0x0a, 1, 7, 0x12, 1, 9]);
        let put = Put { publisher: Some(vec![5]), seconds: Some(1), ..put };
        let record = [0x0a, 1, 7, 0x12, 1, 9, 0xd2, 0x29, 1, 5, 0xc8, 0x30, 1];
        assert_eq!(put.request(), [&[20, 0x08, 0, 0x12, 1, 7, 0x1a, 13], record.as_slice()].concat());
    }

    #[test]
    fn nodes_and_the_record_of_an_answer_are_found_behind_everything_else() {
        let answer = [0x08, 1, 0x42, 5, 0x0a, 1, 3, 0x18, 1, 0x1a, 3, 0x12, 1, 9, 0x42, 3, 0x0a, 1, 4];
        assert_eq!(closer(&answer), [[3], [4]]);
        assert_eq!(value(&answer), Some(vec![9]));
        assert_eq!(value(&answer[..13]), None);
        assert_eq!(closer(&[0x42, 0x7f]), [[0; 0]; 0]);
    }
}
