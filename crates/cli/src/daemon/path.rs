//! Names of devices as one segment of a path.

use std::fmt::Write as _;

/// Everything but unreserved characters (RFC 3986, section 2.3) becomes `%XX`.
pub(super) fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn names_with_anything_in_them_stay_one_segment() {
        assert_eq!(encode("bob-1_2.3~"), "bob-1_2.3~");
        assert_eq!(encode("a/b c?#%ä"), "a%2Fb%20c%3F%23%25%C3%A4");
    }
}
