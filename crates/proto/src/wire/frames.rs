//! Frames on the streams of section 7 and 10: `u16 length of the rest ‖ type u8 ‖ body`, one fixed size per type.

use crate::wire::Malformed;

/// Largest value of the length field that is read at all.
pub const MAX_FRAME_LEN: usize = 2048;

/// Declares the frame types with their type byte and exact body size.
macro_rules! frame_types {
    ($($(#[$doc:meta])* $name:ident = $byte:literal, $len:literal;)*) => {
        /// The type of a frame; it fixes the size of the body.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FrameType {
            $($(#[$doc])* $name,)*
        }

        impl FrameType {
            /// Every type, in the order of its byte.
            pub const ALL: &'static [FrameType] = &[$(FrameType::$name,)*];

            /// The type byte on the wire.
            pub fn byte(self) -> u8 {
                match self { $(FrameType::$name => $byte,)* }
            }

            /// The exact size of the body.
            pub fn body_len(self) -> usize {
                match self { $(FrameType::$name => $len,)* }
            }

            fn from_byte(byte: u8) -> Option<FrameType> {
                match byte { $($byte => Some(FrameType::$name),)* _ => None }
            }
        }
    };
}

frame_types! {
    /// Joiner's hello to a code: versions, mode, tag, nonce, commitment.
    P1 = 0x01, 94;
    /// Initiator's answer in modes that have no code.
    P2 = 0x02, 34;
    /// First Noise message: proof of the code, challenge for the initiator.
    H1 = 0x11, 80;
    /// Second Noise message: status, challenge for the joiner.
    H2 = 0x12, 81;
    /// Opens the joiner's commitment for a comparison.
    S3 = 0x13, 48;
    /// The joiner's identity, share and signature.
    H3 = 0x14, 704;
    /// The initiator's verdict, identity, share and signature.
    H4 = 0x15, 704;
    /// The joiner's verdict.
    H5 = 0x16, 49;
    /// The initiator's confirmation that both have stored.
    H6 = 0x17, 49;
    /// Continues a handshake whose connection was lost.
    Resume = 0x18, 32;
    /// Hello of paired devices: dialler's nonce and recognition tag.
    R1 = 0x21, 49;
    /// Hello: the listener's proof, or its notice that the pairing is over.
    R2 = 0x22, 138;
    /// Hello: the dialler's proof.
    R3 = 0x23, 105;
    /// Hello: the listener's acceptance.
    R4 = 0x24, 2;
    /// Round trip over the paired channel: 8 bytes that come back.
    Ping = 0x31, 8;
    /// The answer to [`FrameType::Ping`]: the same 8 bytes.
    Pong = 0x32, 8;
}

/// One frame, its body of exactly the size its type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    kind: FrameType,
    body: Vec<u8>,
}

impl Frame {
    /// A frame of ours. The body has the size of its type by construction.
    pub(crate) fn new(kind: FrameType, body: Vec<u8>) -> Frame {
        debug_assert_eq!(body.len(), kind.body_len());
        Frame { kind, body }
    }

    /// The type.
    pub fn kind(&self) -> FrameType {
        self.kind
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as a fixed-size array; `N` is the size of this type.
    pub(crate) fn fixed<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.body.as_slice().try_into().map_err(|_| Malformed)
    }

    /// Length field, type and body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 + self.body.len());
        let len = u16::try_from(1 + self.body.len()).expect("bodies are at most 704 bytes");
        out.extend_from_slice(&len.to_be_bytes());
        out.push(self.kind.byte());
        out.extend_from_slice(&self.body);
        out
    }

    /// Reads what follows the length field: the type byte and a body of exactly its size.
    pub fn from_rest(rest: &[u8]) -> Result<Frame, Malformed> {
        let (byte, body) = rest.split_first().ok_or(Malformed)?;
        let kind = FrameType::from_byte(*byte).ok_or(Malformed)?;
        if body.len() != kind.body_len() {
            return Err(Malformed);
        }
        Ok(Frame { kind, body: body.to_vec() })
    }

    /// The length of the rest that a length field announces, if it is one this protocol can have: a driver need not
    /// allocate before it knows.
    pub fn rest_len(field: [u8; 2]) -> Result<usize, Malformed> {
        let len = usize::from(u16::from_be_bytes(field));
        if len == 0 || len > MAX_FRAME_LEN { Err(Malformed) } else { Ok(len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_every_type_survives_and_any_other_length_is_refused() {
        for kind in FrameType::ALL {
            let frame = Frame::new(*kind, vec![7; kind.body_len()]);
            let bytes = frame.to_bytes();
            let len = Frame::rest_len([bytes[0], bytes[1]]).expect("a length");
            assert_eq!(len, bytes.len() - 2);
            assert_eq!(Frame::from_rest(&bytes[2..]), Ok(frame));
            assert_eq!(Frame::from_rest(&bytes[2..bytes.len() - 1]), Err(Malformed));
            let mut long = bytes[2..].to_vec();
            long.push(0);
            assert_eq!(Frame::from_rest(&long), Err(Malformed));
        }
        assert_eq!(Frame::from_rest(&[]), Err(Malformed));
        assert_eq!(Frame::from_rest(&[0x99, 1]), Err(Malformed));
        assert_eq!(Frame::rest_len([0, 0]), Err(Malformed));
        assert_eq!(Frame::rest_len([0xff, 0xff]), Err(Malformed));
    }
}
