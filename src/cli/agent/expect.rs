//! `sekuire agent push --dry-run=server`: what the cluster says of agents, and whether it is what was expected.

use kube::api::{Patch, PatchParams};
use kube::core::Status;
use kube::{Api, Client};

use super::push::Push;
use super::*;
use crate::api::{self, Sent};
use crate::cli::emit;

impl Push {
    /// Asks the cluster about every agent, and reads nothing else of it.
    pub(super) fn ask_cluster(&self, agents: &[NamedAgent]) -> anyhow::Result<Outcome> {
        let cluster = self.cluster.connect()?;
        let Some(rule) = &self.expect_refused else { return self.apply(&cluster, agents, true) };
        let mut outcome = Outcome::Fine;
        for agent in agents {
            let namespace = self.namespace_of(agent, &cluster);
            let shown = format!("{namespace}/{}", agent.name);
            let answer = cluster
                .try_ask(&format!("trying {shown}"), attempt(cluster.client(), agent, namespace, self.params(true)));
            match answer.map_err(|e| cluster.explain(&format!("{shown} was not judged"), e))? {
                None => complain(&format!("{shown} was admitted; expected to be refused for {rule}")),
                Some(status) if names(&status, rule) => {
                    emit(&format!("{shown} was refused, as expected for {rule}:\n{}\n", status.message))?;
                    continue;
                }
                Some(status) => {
                    complain(&format!("{shown} was not refused for {rule}, but otherwise:\n{}", status.message));
                }
            }
            outcome = Outcome::Refused;
        }
        Ok(outcome)
    }
}

/// The refusal, if it is refused. An error says nothing of the agent.
async fn attempt(
    client: Client,
    agent: &NamedAgent,
    namespace: &str,
    params: PatchParams,
) -> Result<Option<Box<Status>>, kube::Error> {
    let api: Api<Sent<api::Agent>> = Api::namespaced(client, namespace);
    match api.patch(&agent.name, &params, &Patch::Apply(&agent.manifest)).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 401 => Ok(Some(status)),
        Err(error) => Err(error),
    }
}

/// Whether a refusal names the rule, as one of its causes.
fn names(status: &Status, rule: &str) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == rule)
}
