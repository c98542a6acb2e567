//! The condition `ReceiverReady` of a `PolicyRepository`: where its receiver is, or why there is none. It says nothing
//! about `Ready`: fetching goes on without it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch::Receiver;

use super::PATH;
use super::endpoints::Endpoints;
use crate::api::conditions::{self, NewCondition};
use crate::api::{PolicyRepository, Sent};
use crate::controller::answer::in_time;
use crate::controller::caches::Repositories;
use crate::controller::events::Events;
use crate::controller::lease::Leading;

const TYPE: &str = "ReceiverReady";
/// Not that of the rest of the status: each of two appliers would take away what only the other one has.
const MANAGER: &str = "sekuire-receiver";
/// Pause before a condition that could not be written is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps the condition while this replica leads, for ever. `endpoints`: `None` where the receiver is not served.
pub async fn report(
    client: Client,
    endpoints: Option<Arc<Endpoints>>,
    mut repositories: Receiver<Repositories>,
    mut leading: Leading,
    events: Events,
) {
    let api: Api<Sent<PolicyRepository>> = Api::all(client);
    let mut changes = endpoints.as_ref().map(|endpoints| endpoints.changes());
    loop {
        leading.wait_for(true).await;
        if let Some(changes) = &mut changes {
            changes.borrow_and_update();
        }
        let all = repositories.borrow_and_update().clone().unwrap_or_default();
        let mut failed = false;
        for repository in all.values() {
            let Some(wanted) = wanted(repository, endpoints.as_deref()) else { continue };
            if let Err(error) = write(&api, repository, &wanted, &events).await {
                // another writer was first, most often: the watch brings what it wrote
                tracing::debug!(%error, repository = %repository.name_any(), "condition of the receiver not written");
                failed = true;
            }
        }
        let changed = async {
            match &mut changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = repositories.changed() => if changed.is_err() { return },
            changed = changed => if !changed { return },
            () = tokio::time::sleep(PAUSE), if failed => {}
        }
    }
}

/// The conditions of this type that a repository is to have: one or none. `None`: that is not known yet.
fn wanted(repository: &PolicyRepository, endpoints: Option<&Endpoints>) -> Option<Vec<NewCondition>> {
    let Some(spec) = &repository.spec.receiver else { return Some(Vec::new()) };
    let name = repository.name_any();
    let Some(endpoints) = endpoints else {
        let message = "spec.receiver is set, and the controller serves no receiver: start it with --receiver-listen";
        return Some(vec![NewCondition::new(TYPE, false, "NotServed", message)]);
    };
    let endpoint = endpoints.get(&name).filter(|endpoint| endpoint.spec == *spec)?;
    let condition = match endpoint.token() {
        Ok(token) => {
            token?;
            NewCondition::new(TYPE, true, "Succeeded", format!("served at {PATH}{name}"))
        }
        Err((reason, message)) => NewCondition::new(TYPE, false, reason, message),
    };
    Some(vec![condition])
}

async fn write(
    api: &Api<Sent<PolicyRepository>>,
    repository: &PolicyRepository,
    wanted: &[NewCondition],
    events: &Events,
) -> Result<(), kube::Error> {
    let present = repository.status.as_ref().and_then(|status| conditions::find(&status.conditions, TYPE));
    let now = conditions::merge(
        present.map_or(&[], std::slice::from_ref),
        wanted,
        repository.metadata.generation,
        Timestamp::now(),
    );
    if now.first() == present {
        return Ok(());
    }
    let name = repository.name_any();
    let object = json!({
        "apiVersion": PolicyRepository::api_version(&()), "kind": PolicyRepository::kind(&()),
        "metadata": {"name": name, "resourceVersion": repository.resource_version()},
        "status": {"conditions": now},
    });
    in_time(api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))).await?;
    let says = |condition: &Condition| (condition.status.clone(), condition.reason.clone());
    if let Some(bad) = now.first().filter(|now| now.status == "False" && present.map(says) != Some(says(now))) {
        let about = Events::repository(&name, repository.uid());
        events.warning(about, &bad.reason, bad.message.clone()).await;
    }
    Ok(())
}
