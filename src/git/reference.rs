//! What of a repository is read, and which versions a range of them means.

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use super::GitError;

/// What of a repository is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// The branch that the remote's `HEAD` names.
    #[default]
    Default,
    /// A branch, without `refs/heads/`.
    Branch(String),
    /// A tag, without `refs/tags/`.
    Tag(String),
    /// The tag of the highest version in a range such as `1.x` or `>=1.0.0 <2.0.0`.
    Semver(String),
    /// A commit, 40 hex. The server has to offer it, or something that descends from it.
    Commit(String),
}

impl Reference {
    /// Whether it is a line of commits, each of which has to descend from the one before it.
    pub(super) fn is_branch(&self) -> bool {
        matches!(self, Self::Default | Self::Branch(_))
    }

    /// # Errors
    /// [`GitError::Request`] if it can never name anything.
    pub(super) fn check(&self) -> Result<(), GitError> {
        match self {
            Self::Default | Self::Branch(_) | Self::Tag(_) => Ok(()),
            Self::Semver(range) => Range::parse(range).map(|_| ()),
            Self::Commit(id) => super::check_id(id),
        }
    }
}

/// A range of versions as it is written for Flux (which has it of Masterminds/semver): `>=1.2.0 <2.0.0`, `~1.2`, `^1`, `1.x`,
/// `!=1.3.0`, `1.2 - 1.4`, `*`; a version alone means exactly that one (Cargo would take it for `^`). `||` stands between
/// alternatives.
pub(super) struct Range(Vec<Alternative>);

/// What all has to hold, and what must not.
struct Alternative {
    all: VersionReq,
    none: Vec<VersionReq>,
}

impl Range {
    pub(super) fn parse(text: &str) -> Result<Self, GitError> {
        text.split("||").map(alternative).collect::<Result<_, _>>().map(Self).map_err(|why| {
            GitError::Request(format!(
                "the version range {text:?} cannot be read ({why}); accepted are for example: 1.2.3, 1.x, ~1.2, ^1.2.0, \
                 >=1.0.0 <2.0.0 !=1.3.0, 1.2 - 1.4, *, and such with || in between"
            ))
        })
    }

    /// Whether a version is in it. A pre-release is, if the range names one of the same version, such as `>=1.2.0-rc.1`.
    pub(super) fn contains(&self, version: &Version) -> bool {
        self.0.iter().any(|Alternative { all, none }| {
            all.matches(version) && !none.iter().any(|excluded| excluded.matches(version))
        })
    }
}

fn alternative(text: &str) -> Result<Alternative, semver::Error> {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
    let (mut all, mut none) = (Vec::new(), Vec::new());
    let mut operator = String::new();
    for (index, word) in words.iter().enumerate() {
        if *word == "-" {
            continue; // what stands on both sides of it is the range
        }
        let version = word.trim_start_matches(['<', '>', '=', '~', '^', '!']);
        operator.push_str(&word[..word.len() - version.len()]);
        if version.is_empty() {
            continue; // `>= 1.0.0`
        }
        let version = version.strip_prefix('v').unwrap_or(version);
        let wild = version.contains(['x', 'X', '*']) && !version.contains('-');
        let (to, from) = (index > 0 && words[index - 1] == "-", words.get(index + 1) == Some(&"-"));
        let written = std::mem::take(&mut operator);
        let operator = match (written.as_str(), from, to) {
            ("", true, false) => ">=",
            ("", false, true) => "<=",
            ("", false, false) if wild => "",
            ("" | "=" | "==", false, false) => "=",
            ("!=", false, false) => {
                none.push(VersionReq::parse(&format!("{}{version}", if wild { "" } else { "=" }))?);
                continue;
            }
            (">=" | "=>", false, false) => ">=",
            ("<=" | "=<", false, false) => "<=",
            ("~" | "~>", false, false) => "~",
            (other @ (">" | "<" | "^"), false, false) => other,
            // no such operator, or one beside ` - `
            (other, ..) => {
                return VersionReq::parse(&format!("{other} -")).map(|all| Alternative { all, none: Vec::new() });
            }
        };
        all.push(format!("{operator}{version}"));
    }
    if !operator.is_empty() || words.first() == Some(&"-") || words.last() == Some(&"-") {
        all.push(format!("{operator} -")); // one without a version is an error
    }
    if all.is_empty() && !none.is_empty() {
        all.push("*".to_owned());
    }
    Ok(Alternative { all: VersionReq::parse(&all.join(", "))?, none })
}

/// The version that a tag names: all three numbers, with or without a leading `v`.
pub(super) fn version(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_what_they_mean_for_flux() {
        for (range, inside, outside) in [
            ("1.2.3", vec!["1.2.3"], vec!["1.2.4", "1.3.0"]),
            ("v1.2.3", vec!["1.2.3"], vec!["1.2.4"]),
            ("1.2", vec!["1.2.0", "1.2.9"], vec!["1.3.0"]),
            ("1.x", vec!["1.0.0", "1.9.9"], vec!["2.0.0"]),
            ("*", vec!["0.0.1", "9.9.9"], vec!["1.0.0-rc.1"]),
            (">=1.0.0 <2.0.0", vec!["1.0.0", "1.9.9"], vec!["0.9.9", "2.0.0", "1.5.0-rc.1"]),
            (">= 1.0.0, < 2.0.0", vec!["1.0.0", "1.9.9"], vec!["0.9.9", "2.0.0"]),
            ("~1.2.3", vec!["1.2.3", "1.2.9"], vec!["1.3.0"]),
            ("^1.2", vec!["1.2.0", "1.9.0"], vec!["1.1.0", "2.0.0"]),
            ("1.0.0 || >=3", vec!["1.0.0", "3.1.0"], vec!["2.0.0"]),
            ("!=1.2.3", vec!["1.2.2", "1.2.4"], vec!["1.2.3", "1.2.4-rc.1"]),
            (">=1.0.0 !=1.3.0, != 1.5 <2", vec!["1.0.0", "1.3.1", "1.9.9"], vec!["1.3.0", "1.5.0", "1.5.9", "2.0.0"]),
            ("!=1.x", vec!["0.9.9", "2.0.0"], vec!["1.0.0", "1.9.9"]),
            ("1.2 - 1.4.5", vec!["1.2.0", "1.4.5"], vec!["1.1.9", "1.4.6"]),
            ("1.0 - 1.9", vec!["1.0.0", "1.9.9"], vec!["0.9.9", "1.10.0"]),
            ("1.0.0 - 1.2.0 || 3.0.0 - 3.1.0 !=3.0.1", vec!["1.1.0", "3.0.0", "3.1.0"], vec!["2.0.0", "3.0.1"]),
            ("=>1.2.0 =<1.3.0", vec!["1.2.0", "1.3.0"], vec!["1.1.9", "1.3.1"]),
            ("~>1.2.0", vec!["1.2.9"], vec!["1.3.0"]),
            ("<=1.9", vec!["1.9.9"], vec!["1.10.0"]),
            (">1.2", vec!["1.3.0"], vec!["1.2.9"]),
            (">=1.2.0-rc.1", vec!["1.2.0-rc.1", "1.2.0", "2.0.0"], vec!["1.2.0-beta", "1.3.0-rc.1"]),
        ] {
            let parsed = Range::parse(range).unwrap();
            let contains = |version: &&str| parsed.contains(&Version::parse(version).unwrap());
            assert!(inside.iter().all(contains), "{range}");
            assert!(!outside.iter().any(contains), "{range}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_for_good() {
        for range in [
            "",
            "||",
            "main",
            ">=",
            "1.2.3.4",
            "!=",
            "!1.0.0",
            ">=1 || x y",
            "><1",
            "1.0 -",
            "- 1.0",
            "-",
            ">=1.0 - 2.0",
            "1 - <2",
            "1.0 - 1.1 - 1.2",
            "!=main",
        ] {
            let Err(error) = Range::parse(range) else { panic!("{range:?} was accepted") };
            assert!(error.permanent() && error.to_string().contains("^1.2.0"), "{error}");
        }
    }

    #[test]
    fn a_tag_names_a_version_with_all_three_numbers() {
        assert_eq!(version("v1.2.3"), version("1.2.3"));
        assert!(version("1.2.3").is_some());
        for tag in ["1.2", "v1", "release-1.2.3", "vv1.2.3"] {
            assert_eq!(version(tag), None, "{tag}");
        }
    }
}
