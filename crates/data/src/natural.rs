//! Names in the order that people expect: `img9` before `img10`.

use std::cmp::Ordering;

/// Runs of digits by their value, all else by its characters; names that are equal so, such as `a1` and
/// `a01`, by their bytes.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        match (digits(left), digits(right)) {
            ((x @ [_, ..], left_rest), (y @ [_, ..], right_rest)) => {
                let value = |digits: &[u8]| {
                    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
                    digits[zeros..].to_vec()
                };
                let (x, y) = (value(x), value(y));
                let order = x.len().cmp(&y.len()).then(x.cmp(&y));
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (left_rest, right_rest);
            }
            _ => match (left, right) {
                ([x, left_rest @ ..], [y, right_rest @ ..]) if x == y => {
                    (left, right) = (left_rest, right_rest);
                }
                _ => return left.first().cmp(&right.first()).then_with(|| a.cmp(b)),
            },
        }
    }
}

/// The digits that a name begins with, and the rest.
fn digits(name: &[u8]) -> (&[u8], &[u8]) {
    let count = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    name.split_at(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_digits_count_as_numbers() {
        let mut names = [
            "b", "a10", "a9", "a09", "a", "a1b2", "a1b10", "a01b2", "A", "a1é", "10", "9",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "9", "10", "A", "a", "a01b2", "a1b2", "a1b10", "a1é", "a09", "a9", "a10", "b"
            ]
        );
    }
}
