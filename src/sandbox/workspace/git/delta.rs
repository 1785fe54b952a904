//! Git's deltas: a content made of pieces of another one and of bytes of its own. Pure; every piece is held against what
//! is there.

/// What a delta makes of its base; `None` if it is no delta of it, or makes more than `bytes_max`.
pub fn apply(base: &[u8], delta: &[u8], bytes_max: u64) -> Option<Vec<u8>> {
    let mut at = 0;
    let base_size = size(delta, &mut at)?;
    let made_size = size(delta, &mut at)?;
    if base_size != base.len() as u64 || made_size > bytes_max {
        return None;
    }
    let mut made = Vec::new();
    while at < delta.len() {
        let order = delta[at];
        at += 1;
        let piece = if order & 0x80 != 0 {
            let offset = number(delta, &mut at, order & 15)?;
            let length = match number(delta, &mut at, order >> 4 & 7)? {
                0 => 0x1_0000,
                length => length,
            };
            base.get(offset..offset.checked_add(length)?)?
        } else {
            // The order nothing is none.
            let length = usize::from(order);
            at += length;
            delta.get(at - length..at).filter(|it| !it.is_empty())?
        };
        made.extend_from_slice(piece);
        if made.len() as u64 > made_size {
            return None;
        }
    }
    (made.len() as u64 == made_size).then_some(made)
}

/// A number of up to four bytes of which the bits of `present` say which are there.
fn number(delta: &[u8], at: &mut usize, present: u8) -> Option<usize> {
    let mut value = 0;
    for index in 0..4 {
        if present & (1 << index) != 0 {
            value |= usize::from(*delta.get(*at)?) << (8 * index);
            *at += 1;
        }
    }
    Some(value)
}

fn size(delta: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    let mut shift = 0;
    loop {
        let byte = *delta.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
        if shift > 56 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_are_copied_and_inserted() {
        let delta = [5, 6, 0x91, 1, 3, 3, b'x', b'y', b'z'];
        assert_eq!(apply(b"abcde", &delta, 6).as_deref(), Some(b"bcdxyz".as_slice()));
    }

    #[test]
    fn what_does_not_fit_is_no_delta() {
        for delta in [
            &[4, 1, 1, b'x'][..],
            &[5, 2, 1, b'x'],
            &[5, 0, 1, b'x'],
            &[5, 9, 0x91, 1, 9],
            &[5, 1, 0],
            &[5, 3, 3, b'x'],
            &[5],
            &[],
            &[0xff; 20],
        ] {
            assert_eq!(apply(b"abcde", delta, 100), None, "{delta:?}");
        }
        assert_eq!(apply(b"abcde", &[5, 3, 0x90, 3], 2), None, "it makes more than may be");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(delta in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(made) = apply(b"abcde", &delta, 1000) {
                prop_assert!(made.len() <= 1000);
            }
        }
    }
}
