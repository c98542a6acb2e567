//! What a scalar of YAML is, as kubectl takes it.
//!
//! By hand, since kubectl's reader (go.yaml.in/yaml/v2) resolves scalars by rules of its own, YAML 1.1 in part, which no
//! crate has: `yes` and `on` are booleans, `017` is fifteen, `08` is eight, `1:30` and `2026-01-01` are texts.

use serde_json::{Number, Value};

/// A scalar without quotes and tag. None: a number that JSON cannot hold (`.inf`, `.nan`).
pub(super) fn plain(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => match text.strip_prefix(['+', '-']).unwrap_or(text) {
            ".inf" | ".Inf" | ".INF" => return None,
            ".nan" | ".NaN" | ".NAN" if !text.starts_with(['+', '-']) => return None,
            _ => number(text).map_or_else(|| Value::from(text), Value::Number),
        },
    })
}

/// A number as JSON has it: a float without a fraction is an integer, as in the JSON that kubectl sends.
pub(super) fn float(value: f64) -> Option<Number> {
    /// From here on not every integer is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[allow(clippy::cast_possible_truncation, reason = "it has no fraction, and is less than 2^53")]
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

fn number(text: &str) -> Option<Number> {
    match text.as_bytes().first()? {
        b'.' => decimal(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let digits = text.replace('_', "");
            integer(&digits).or_else(|| decimal(&digits))
        }
        _ => None,
    }
}

/// With the prefix of its base: `0x`, `0o`, `0b`, or `0`, which is octal.
fn integer(text: &str) -> Option<Number> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None; // a second sign
    }
    let signed = i64::from_str_radix(&format!("{sign}{digits}"), base).ok().map(Number::from);
    let unsigned = || u64::from_str_radix(digits, base).ok().filter(|_| !text.starts_with(['+', '-']));
    signed.or_else(|| unsigned().map(Number::from))
}

fn decimal(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let form = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
    };
    if !form || !exponent.is_none_or(digits) {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite()).and_then(float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_are_what_kubectl_takes_them_for() {
        for (text, value) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("n", json!(false)),
            ("tRue", json!("tRue")),
            ("", json!(null)),
            ("017", json!(15)),
            ("08", json!(8)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("-0b11", json!(-3)),
            ("1_000", json!(1000)),
            ("+1", json!(1)),
            ("--1", json!("--1")),
            ("18446744073709551615", json!(u64::MAX)),
            ("4e2", json!(400)),
            ("400.0", json!(400)),
            (".5", json!(0.5)),
            ("1.10", json!(1.1)),
            ("1e999", json!("1e999")),
            ("1:30", json!("1:30")),
            ("2026-01-01", json!("2026-01-01")),
            ("0x", json!("0x")),
            ("+", json!("+")),
            ("_1", json!("_1")),
            ("1.2.3", json!("1.2.3")),
            (".", json!(".")),
        ] {
            assert_eq!(plain(text), Some(value), "{text}");
        }
        for text in [".inf", "-.Inf", "+.INF", ".nan"] {
            assert_eq!(plain(text), None, "{text}");
        }
    }
}
