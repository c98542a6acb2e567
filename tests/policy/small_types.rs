//! Versions, patterns, times, reasons, formats.

use sekuire_policy::policy::document::parse_time;
use sekuire_policy::policy::{Format, Pattern, Reason, Rule, Version};

use crate::support::time;

#[test]
fn versions_are_ordered_number_by_number_and_missing_numbers_are_zero() {
    let ascending = ["0", "0.0.1", "1", "1.0.1", "1.1", "1.9", "1.10", "2", "10", "2147483647.2147483647.2147483647"];
    let versions: Vec<Version> = ascending.iter().map(|v| v.parse().unwrap()).collect();
    assert!(versions.is_sorted_by(|a, b| a < b));
    for (a, b) in [("1", "1.0"), ("1", "1.0.0"), ("2.5", "2.5.0"), ("0", "0.0.0")] {
        assert_eq!(a.parse::<Version>().unwrap(), b.parse::<Version>().unwrap());
    }
}

#[test]
fn a_version_prints_as_it_was_written() {
    for text in ["1", "1.0", "1.0.0", "1.2.3", "0"] {
        assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
    }
}

#[test]
fn what_is_no_version_is_refused() {
    for text in
        ["", ".", "1.", ".1", "1..2", "01", "1.02", "00", "-1", "+1", "1.2.3.4", "v1", "1 ", "2147483648", "1.x", "١"]
    {
        assert!(text.parse::<Version>().is_err(), "{text:?}");
    }
}

#[test]
fn a_version_is_bumped_at_its_last_written_number() {
    for (from, to) in [("1", "2"), ("1.9", "1.10"), ("1.2.3", "1.2.4")] {
        assert_eq!(from.parse::<Version>().unwrap().bump().unwrap().to_string(), to);
    }
    assert!("1.2147483647".parse::<Version>().unwrap().bump().is_err());
}

#[test]
fn a_star_is_any_run_and_nothing_else_is_special() {
    let matches = |pattern: &str, text: &str| Pattern::new(pattern).matches(text);
    for (pattern, text) in
        [("*", ""), ("*", "x/y"), ("a*", "a"), ("a*c", "abbc"), ("*a*a*", "xaya"), ("**", "q"), ("", ""), ("ü*", "üx")]
    {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in
        [("", "x"), ("a*c", "abcd"), ("*a*a*", "xay"), ("a?", "ab"), ("[a]", "a"), ("A", "a"), ("a*b*c", "acb")]
    {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
    assert!(Pattern::new("GPT-*").matches_ignore_case("gpt-4"));
    assert!(!Pattern::new("\u{212a}imi").matches_ignore_case("kimi"), "only ASCII is folded");
}

#[test]
fn a_pattern_of_many_stars_is_matched_at_once() {
    let pattern = Pattern::new(&"*a".repeat(2000));
    assert!(!pattern.matches(&("a".repeat(20_000) + "b")));
    assert!(pattern.matches(&"a".repeat(20_000)));
}

#[test]
fn times_are_those_of_rfc_3339_with_a_zone() {
    for (text, same) in [
        ("2026-06-01T00:00:00Z", "2026-06-01T00:00:00Z"),
        ("2026-06-01t00:00:00z", "2026-06-01T00:00:00Z"),
        ("2026-06-01T02:00:00.5+02:00", "2026-06-01T00:00:00.5Z"),
        ("2026-05-31T23:59:00-00:01", "2026-06-01T00:00:00Z"),
        ("2026-06-01T00:00:00-00:00", "2026-06-01T00:00:00Z"),
        ("2026-06-01T00:00:00.123456789987Z", "2026-06-01T00:00:00.123456789Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ("2016-12-31T15:59:60-08:00", "2016-12-31T23:59:59Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
    ] {
        assert_eq!(parse_time(text), Some(time(same)), "{text}");
    }
    assert_eq!(parse_time("9999-12-31T23:59:59Z"), Some(jiff::Timestamp::MAX));
    assert_eq!(parse_time("0000-01-01T00:00:00Z").map(|t| t < time("0001-01-01T00:00:00Z")), Some(true));
}

#[test]
fn what_rfc_3339_does_not_have_is_no_time() {
    for text in [
        "",
        "tomorrow",
        "2026-06-01",
        "2026-06-01T00:00:00",
        "2026-06-01 00:00:00Z",
        "2026-06-01T00:00Z",
        "2026-06-01T00:00:00.Z",
        "2026-06-01T00:00:00,5Z",
        "2026-06-01T00:00:00+0200",
        "2026-06-01T00:00:00+02",
        "2026-06-01T00:00:00+24:00",
        "2026-06-01T00:00:00+02:60",
        "2026-06-01T00:00:00Z[UTC]",
        "2026-06-01T00:00:00+02:00[Europe/Berlin]",
        "2026-06-01T24:00:00Z",
        "2026-06-01T00:60:00Z",
        "2026-06-01T12:00:60Z",
        "2026-06-01T00:00:61Z",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "20260601T000000Z",
        "+002026-06-01T00:00:00Z",
        "-2026-06-01T00:00:00Z",
        " 2026-06-01T00:00:00Z",
        "2026-06-01T00:00:00Z ",
        "2026-06-01T00:00:00ZZ",
        "2026-W23-1T00:00:00Z",
        "２026-06-01T00:00:00Z",
    ] {
        assert_eq!(parse_time(text), None, "{text:?}");
    }
}

#[test]
fn every_reason_and_every_rule_has_one_name() {
    let mut reasons: Vec<&str> = Reason::ALL.iter().map(|r| r.as_str()).collect();
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse::<Reason>().unwrap(), reason);
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        assert_eq!(format!("{reason:?}"), reason.as_str());
    }
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), Reason::ALL.len());
    let mut rules: Vec<&str> = Rule::ALL.iter().map(|r| r.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    assert_eq!(rules.len(), Rule::ALL.len());
}

#[test]
fn the_extension_says_how_a_file_is_written() {
    for (path, format) in [
        ("policies/a.json", Some(Format::Json)),
        ("a.b.yaml", Some(Format::Yaml)),
        ("a.yml", Some(Format::Yaml)),
        ("a.json/readme", None),
        ("README.md", None),
        ("json", None),
        ("a.JSON", None),
    ] {
        assert_eq!(Format::of_path(path), format, "{path}");
    }
}
