//! Numbers for people.

/// A number with three digits that count.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let text = match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        size => {
            let decimals = (2.0 - size.log10().floor()).clamp(0.0, 4.0) as usize;
            let text = format!("{value:.decimals$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
    };
    text.replace('-', "−")
}

/// A tick's label: as many digits as tell it from the next, which is a step away.
pub fn label(tick: f64, step: f64) -> String {
    let digit = step.abs().log10().floor();
    // What is left of a sum that should be zero.
    let zero = tick.abs() < 1e-6 * step.abs();
    let text = match (tick.abs() >= 1e7 || step.abs() < 1e-5, zero) {
        (true, true) => "0".to_owned(),
        (true, false) => {
            let digits = (tick.abs().log10().floor() - digit).clamp(0.0, 9.0) as usize;
            format!("{tick:.digits$e}")
        }
        (false, _) => {
            let decimals = (-digit).clamp(0.0, 5.0) as usize;
            format!("{:.decimals$}", if zero { 0.0 } else { tick })
        }
    };
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let told = [0.0, 0.012345, 1.5, 123.4, 12345.0, 1e-7, -2.0].map(number);
        assert_eq!(told, ["0", "0.0123", "1.5", "123", "12345", "1.0e−7", "−2"]);
    }

    #[test]
    fn labels_have_the_digits_they_need() {
        let told = [
            label(0.25, 0.05),
            label(20.0, 10.0),
            label(0.001, 0.001),
            label(-2.0, 1.0),
            label(1e-17, 0.1),
            label(1.25e8, 5e6),
            label(3e-7, 1e-7),
            label(200_000.0, 50_000.0),
        ];
        let expected = [
            "0.25", "20", "0.001", "−2", "0.0", "1.25e8", "3e−7", "200000",
        ];
        assert_eq!(told, expected);
    }
}
