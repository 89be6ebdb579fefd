//! Frames: bytes behind their length, which is a number of seven bits a byte.

use std::io::{self, Error, ErrorKind};

use futures::{AsyncRead, AsyncReadExt as _};

/// The bytes of a number.
pub(crate) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}

/// The number at the start of some bytes, and the rest of them.
pub(crate) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at(end + 1);
    Some((number.iter().rev().fold(0, |sum, byte| (sum << 7) | u64::from(byte & 0x7f)), rest))
}

/// A message as a frame.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let mut bytes = varint(message.len() as u64);
    bytes.extend_from_slice(message);
    bytes
}

/// The next frame of at most `max` bytes.
pub(crate) async fn read_frame(from: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = loop {
        let mut byte = [0];
        from.read_exact(&mut byte).await?;
        bytes.push(byte[0]);
        if let Some((length, _)) = number(&bytes) {
            break length;
        }
        if bytes.len() >= 10 {
            return Err(Error::new(ErrorKind::InvalidData, "a length without an end"));
        }
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= max);
    let mut message = vec![0; length.ok_or_else(|| Error::new(ErrorKind::InvalidData, "a frame that is too long"))?];
    from.read_exact(&mut message).await?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::{number, varint};

    #[test]
    fn a_number_is_read_as_it_was_written() {
        for sample in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = varint(sample);
            bytes.push(7);
            assert_eq!(number(&bytes), Some((sample, [7].as_slice())));
        }
        assert_eq!(varint(300), [0xac, 0x02]);
        assert_eq!(number(&[0xff; 10]), None);
    }
}
