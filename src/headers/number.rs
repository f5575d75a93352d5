//! Numbers in header values.

/// The most digits that a `u64` has.
const DIGITS: usize = 20;

/// Appends a number in decimal. Headers of every request hold a dozen of them, and formatting by way of `Display` would
/// be among what costs most.
pub fn push_number(text: &mut String, mut number: u64) {
    let mut digits = [b'0'; DIGITS];
    let mut first = DIGITS;
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
        first = at;
        if number == 0 {
            break;
        }
    }
    text.extend(digits[first..].iter().copied().map(char::from));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pushed(number: u64) -> String {
        let mut text = String::from("q=");
        push_number(&mut text, number);
        text
    }

    #[test]
    fn the_edges() {
        for number in [0, 9, 10, 255, u64::MAX] {
            assert_eq!(pushed(number), format!("q={number}"));
        }
    }

    proptest! {
        #[test]
        fn as_display_writes_it(number in any::<u64>(), shift in 0..64) {
            prop_assert_eq!(pushed(number >> shift), format!("q={}", number >> shift));
        }
    }
}
