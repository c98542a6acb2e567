//! `sekuire break-glass`: stops enforcement for a while, in an outage.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde_json::{Value, json};

use super::cluster::{Cluster, ClusterArgs};
use super::output::Output;
use super::{Outcome, Usage, note};
use crate::admission::break_glass::{LONGEST, Setting};
use crate::admission::registration::{CONFIGURATION_NAME, WEBHOOK_NAME};
use crate::api::{BREAK_GLASS, Sent};

/// By which the clock here may be ahead of the controller's, which obeys nothing that ends later than in [`LONGEST`].
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Stop enforcement for a while, in an outage, and start it again.
///
/// One annotation of the webhook configuration says until when and why; failurePolicy Ignore lets agents pass also where no
/// replica answers. Everybody sees it: a warning for each agent that is let in, Events, the log and a metric.
#[derive(Subcommand, Debug)]
pub(super) enum BreakGlass {
    Open(Open),
    Close(Close),
    Status(Show),
}

/// Admit all agents until a time, whatever the policies say and whether or not the controller lives.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire break-glass open --for 2h --reason \"INC-123: the controller crashes\"
  sekuire break-glass close

It takes the right to patch this one configuration, which the chart's ClusterRole for break glass gives.")]
pub(super) struct Open {
    /// For how long, 24 hours at most; it ends by itself. Of the last of them five minutes are left off, so that a clock
    /// here that is ahead of the controller's does not make it more.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    duration: SignedDuration,
    /// Why, for everybody who sees it: the number of an incident, for example.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Enforce policies again, at once.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sekuire break-glass close")]
pub(super) struct Close {
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Say whether enforcement is stopped, until when and why.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire break-glass status
  sekuire break-glass status --output json

JSON: an object with open, until, reason, failurePolicy, and ignored (why an annotation is not obeyed).")]
pub(super) struct Show {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: Output,
}

/// What is to be known of break glass.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignored: Option<String>,
}

impl BreakGlass {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            BreakGlass::Open(command) => command.run(),
            BreakGlass::Close(command) => command.run(),
            BreakGlass::Status(command) => command.run(),
        }
    }
}

impl Open {
    fn run(self) -> anyhow::Result<Outcome> {
        let now = Timestamp::now();
        let until = now + Duration::try_from(self.duration.min(LONGEST - AHEAD))?;
        // whole seconds, as people write them
        let until = Timestamp::from_second(until.as_second())?;
        let value = format!("{until} {}", self.reason);
        if let Setting::Refused(why) = Setting::read(Some(&value), now) {
            bail!(Usage(format!("--reason: {why}")));
        }
        patch(&self.cluster.connect()?, Some(&value), "Ignore")?;
        note(&format!(
            "Break glass is open until {until}: all agents are admitted.\n\
             Close it with `sekuire break-glass close`; otherwise a live controller does, at that time;\n\
             while none lives, agents stay admitted until you close it."
        ));
        Ok(Outcome::Fine)
    }
}

impl Close {
    fn run(self) -> anyhow::Result<Outcome> {
        patch(&self.cluster.connect()?, None, "Fail")?;
        note(
            "Break glass is closed: agents are held to their policies, and refused where no replica of the controller answers.",
        );
        Ok(Outcome::Fine)
    }
}

/// Annotation and failure policy in one write. It carries nothing else, so that the right to patch is enough.
fn patch(cluster: &Cluster, annotation: Option<&str>, failure_policy: &str) -> anyhow::Result<()> {
    let patch: Value = json!({
        "metadata": {"annotations": {BREAK_GLASS: annotation}},
        "webhooks": [{"name": WEBHOOK_NAME, "failurePolicy": failure_policy}],
    });
    let api: Api<Sent<ValidatingWebhookConfiguration>> = Api::all(cluster.client());
    let params = PatchParams { field_manager: Some("sekuire".to_owned()), ..PatchParams::default() };
    let what = format!("patching the ValidatingWebhookConfiguration {CONFIGURATION_NAME}");
    match cluster.try_ask(&what, api.patch(CONFIGURATION_NAME, &params, &Patch::Strategic(&patch))) {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            bail!(
                "there is no ValidatingWebhookConfiguration {CONFIGURATION_NAME} in this cluster: no agent is refused"
            )
        }
        Err(error) => Err(cluster.explain(&what, error)),
    }
}

impl Show {
    fn run(self) -> anyhow::Result<Outcome> {
        let cluster = self.cluster.connect()?;
        let what = format!("cannot read the ValidatingWebhookConfiguration {CONFIGURATION_NAME}");
        let found = cluster.get::<ValidatingWebhookConfiguration>(&what, CONFIGURATION_NAME)?;
        let Some(found) = found else {
            bail!(
                "there is no ValidatingWebhookConfiguration {CONFIGURATION_NAME} in this cluster: no agent is refused"
            )
        };
        let webhooks = found.object.as_ref().map(|found| found.webhooks.as_deref().unwrap_or_default());
        let webhook = webhooks.unwrap_or_default().iter().find(|webhook| webhook.name == WEBHOOK_NAME);
        let failure_policy = webhook.and_then(|webhook| webhook.failure_policy.clone());
        let state = State { failure_policy, ..state(&found, Timestamp::now()) };
        self.output.print(&state, |_| state.told())?;
        Ok(Outcome::Fine)
    }
}

fn state(found: &Sent<ValidatingWebhookConfiguration>, now: Timestamp) -> State {
    match Setting::of(found.metadata.annotations.as_ref(), now) {
        Setting::Absent => State::default(),
        Setting::Open(open) => {
            State { open: true, until: Some(open.until), reason: Some(open.reason.to_string()), ..State::default() }
        }
        Setting::Over(open) => State { ignored: Some(format!("it was {open}")), ..State::default() },
        Setting::Refused(why) => State { ignored: Some(why), ..State::default() },
    }
}

impl State {
    fn told(&self) -> String {
        let mut text = match (&self.until, &self.reason) {
            (Some(until), Some(reason)) => format!("open until {until}: {reason}\n"),
            _ => "closed\n".to_owned(),
        };
        if let Some(why) = &self.ignored {
            text += &format!("an annotation is not obeyed: {why}\n");
        }
        match self.failure_policy.as_deref() {
            Some("Fail") => text += "failurePolicy Fail: agents are refused where no replica answers\n",
            Some(other) => text += &format!("failurePolicy {other}: agents are admitted where no replica answers\n"),
            None => text += "the configuration has no webhook of ours: no agent is refused\n",
        }
        text
    }
}

/// Less would be over before it was written.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);

/// For clap: a length of time.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let parsed = text.parse::<SignedDuration>().ok();
    let within = parsed.filter(|length| (SHORTEST..=LONGEST).contains(length));
    let hours = LONGEST.as_hours();
    within.ok_or_else(|| {
        format!("expected a length such as 30m, 2h or 1h30m, of at least a minute and at most {hours} hours")
    })
}
