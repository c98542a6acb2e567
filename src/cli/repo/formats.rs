//! The forms in which the gate reports: for people, and for what shows it beside a pull request.

use std::fmt::Write as _;

use clap::ValueEnum;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

use super::report::{AGENT_MALFORMED, AGENT_NEWLY_REFUSED, DocumentResult, Finding, Level, Report};
use crate::cli::agent;
use crate::cli::output::{columns, counted};
use crate::cli::terminal::Style;
use crate::git::{one_line, shown};
use crate::policy::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    Text,
    Json,
    Sarif,
    Junit,
    Github,
}

impl Form {
    /// The report in this form.
    pub(super) fn of(self, report: &Report, style: Style) -> anyhow::Result<String> {
        Ok(match self {
            Form::Text => text(report, style),
            Form::Json => format!("{}\n", serde_json::to_string_pretty(report)?),
            Form::Sarif => format!("{:#}\n", sarif(report)),
            Form::Junit => junit(report)?,
            Form::Github => github(report),
        })
    }
}

fn text(report: &Report, style: Style) -> String {
    let rows = report.documents.iter().map(|document| [shown(&document.file), document.words()]);
    let rows: Vec<[String; 2]> = rows.collect();
    let marks = report.documents.iter().map(|document| match document.result {
        Reason::Verified => style.mark(true),
        Reason::Superseded => style.faint("–"),
        _ => style.mark(false),
    });
    let table = columns(&rows);
    let mut text =
        table.lines().zip(marks).fold(String::new(), |text, (line, mark)| text + &format!("{mark} {line}\n"));
    for finding in report.findings.iter().filter(|finding| finding.reason != AGENT_NEWLY_REFUSED) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{}: {}", style.strong(&finding.place()), style.bad(finding.reason));
        let _ = writeln!(text, "  {}", one_line(&finding.message));
    }
    if !report.newly_refused.is_empty() {
        let _ = writeln!(text, "\n{}", style.strong("Agents that would newly be refused:"));
        text += &agent::rows(&report.newly_refused, style);
    }
    format!("{text}\n{}\n", summary(report)).trim_start().to_owned()
}

fn summary(report: &Report) -> String {
    let documents = report.documents.len();
    let faults = report.findings.iter().filter(|finding| finding.reason != AGENT_NEWLY_REFUSED).count();
    let agents = match report.newly_refused.len() {
        0 => String::new(),
        agents => format!(", {} newly refused", counted(agents, "agent")),
    };
    format!("{}, {}{agents}", counted(documents, "document"), counted(faults, "fault"))
}

impl DocumentResult {
    fn words(&self) -> String {
        let (Some(id), Some(version), Some(workspace), Some(status)) =
            (&self.policy_id, &self.version, &self.workspace_id, self.status)
        else {
            return self.result.to_string();
        };
        let follows = self.follows.as_ref().filter(|before| *before != version);
        let follows = follows.map(|before| format!(", follows {before}")).unwrap_or_default();
        let reason = if self.result == Reason::Verified { String::new() } else { format!("  {}", self.result) };
        format!("{id} version {version} of {workspace}, {status}{follows}{reason}")
    }
}

impl Finding {
    fn place(&self) -> String {
        let file = self.file.as_deref().map_or_else(|| "the repository".to_owned(), shown);
        self.line.map_or(file.clone(), |line| format!("{file}:{line}"))
    }
}

/// SARIF 2.1.0 (OASIS). By hand: the members that are needed are few, and the crate that has types for all of them
/// generates these from the schema at each build.
fn sarif(report: &Report) -> Value {
    let mut rules: Vec<&str> = report.findings.iter().map(|finding| finding.reason).collect();
    rules.sort_unstable();
    rules.dedup();
    let results = report.findings.iter().map(|finding| {
        json!({
            "ruleId": finding.reason,
            "ruleIndex": rules.iter().position(|rule| *rule == finding.reason),
            "level": finding.level.as_str(),
            "message": {"text": finding.message},
            "locations": [{"physicalLocation": location(finding)}],
        })
    });
    let results: Vec<Value> = results.collect();
    let describe = |rule: &&str| json!({"id": rule, "name": rule, "shortDescription": {"text": meaning(rule)}});
    let rules: Vec<Value> = rules.iter().map(describe).collect();
    let driver = json!({"name": "sekuire", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules});
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    })
}

/// What is shown for a finding about the repository as a whole, or about an agent of a cluster: GitHub refuses a whole upload
/// for one result without a location, and takes one of a file that is not there.
const WHOLE: &str = "repository.yaml";

/// A physical location (SARIF 2.1.0, 3.29). Lines and columns begin at 1 there.
fn location(finding: &Finding) -> Value {
    let file = finding.file.as_deref().filter(|file| !file.is_empty()).unwrap_or(WHOLE);
    let artifact = if file.starts_with('/') {
        // outside of the checkout
        json!({"uri": format!("file://{}", uri(file))})
    } else {
        json!({"uri": uri(file), "uriBaseId": "%SRCROOT%"})
    };
    let at_least_one = |number: Option<u32>| number.unwrap_or(1).max(1);
    json!({
        "artifactLocation": artifact,
        "region": {"startLine": at_least_one(finding.line), "startColumn": at_least_one(finding.column)},
    })
}

fn meaning(reason: &str) -> &'static str {
    match reason.parse::<Reason>() {
        Ok(reason) => reason.meaning(),
        Err(_) if reason == AGENT_MALFORMED => "What is to be an Agent cannot be read as one.",
        Err(_) => "An agent that complies now would not comply with the change.",
    }
}

/// A path as a relative URI reference (RFC 3986).
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=@".contains(&byte);
    path.bytes().fold(String::new(), |uri, byte| {
        if plain(byte) { uri + &char::from(byte).to_string() } else { uri + &format!("%{byte:02X}") }
    })
}

fn junit(report: &Report) -> anyhow::Result<String> {
    let mut documents = TestSuite::new("documents");
    for document in &report.documents {
        let mut status = TestCaseStatus::success();
        let faults = report.findings.iter().filter(|finding| finding.file.as_ref() == Some(&document.file));
        for finding in faults.filter(|finding| finding.reason != AGENT_NEWLY_REFUSED) {
            status = failure(finding);
        }
        documents.add_test_case(TestCase::new(document.file.clone(), status));
    }
    let mut others = TestSuite::new("change");
    let of_a_document = |finding: &&Finding| {
        finding.reason != AGENT_NEWLY_REFUSED
            && report.documents.iter().any(|document| finding.file.as_ref() == Some(&document.file))
    };
    for finding in report.findings.iter().filter(|finding| !of_a_document(finding)) {
        let name = match finding.reason {
            AGENT_NEWLY_REFUSED => finding.message.split(':').next().unwrap_or_default().to_owned(),
            _ => finding.place(),
        };
        others.add_test_case(TestCase::new(name, failure(finding)));
    }
    let mut all = quick_junit::Report::new("sekuire repo check");
    all.add_test_suites([documents, others]);
    Ok(all.to_string()?)
}

/// What is only worth a look does not fail.
fn failure(finding: &Finding) -> TestCaseStatus {
    let place = finding.place();
    let message = format!("{}: {}", finding.reason, finding.message);
    if finding.level == Level::Warning {
        let mut skipped = TestCaseStatus::skipped();
        skipped.set_message(message);
        return skipped;
    }
    let mut failure = TestCaseStatus::non_success(NonSuccessKind::Failure);
    failure.set_type(finding.reason).set_message(message.clone()).set_description(format!("{place}: {message}"));
    failure
}

/// Workflow commands of GitHub Actions, which shows them beside the lines of the pull request.
fn github(report: &Report) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut text = String::new();
    for finding in &report.findings {
        let _ = write!(text, "::{} ", finding.level.as_str());
        if let Some(file) = &finding.file {
            let line = finding.line.unwrap_or(1);
            let column = finding.column.map(|column| format!(",col={column}")).unwrap_or_default();
            let _ = write!(text, "file={},line={line}{column},", property(file));
        }
        let _ = writeln!(text, "title={}::{}", property(finding.reason), data(&finding.message));
    }
    text + &format!("{}\n", summary(report))
}
