//! Pods of sandboxes that live, as others find them who have only the cluster, and whose they are.
//!
//! Such a pod has three annotations: the *story* by which it is known elsewhere what it is, the *holder*, which
//! is a number that whoever has made or adopted it has made up for that, and who that is, for people. A pod is
//! adopted by one patch of its holder that holds only of the version of the pod that was seen: of several who
//! want it the cluster lets one have it. Who finds another holder there than the own has lost it, and leaves it
//! alone.

use std::io;
use std::path::Path;

use agentkernel_core::{Adopt, BootError, DestroyError, Elsewhere, hex};
use agentkernel_far::{KeyFile, of_hex};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use crate::client::{Client, failed, runtime};
use crate::names;
use crate::order::Order;
use crate::pending::{Verdict, judge};
use crate::pod::{KEPT_LABEL, KEY, MANAGED, MANAGER, OWNER};
use crate::settings::Settings;

/// What it is, for whoever finds it.
const STORY: &str = "agentkernel.dev/sandbox";
/// Whose it is, and who that is.
const HOLDER: &str = "agentkernel.dev/holder";
const HELD_BY: &str = "agentkernel.dev/held-by";

/// The file in a sandbox's folder with the holder that this machine is.
const HOLDER_FILE: &str = "holder";

/// The longest story; all annotations of a pod may be 256 KiB together.
const LONGEST: usize = 128 << 10;

/// How often it is tried again where something else of the pod has changed, as its status does.
const TRIES: u32 = 5;

/// Has the pod that is to be made say what it is, and whose.
pub fn describe(pod: &mut Value, holder: &str, story: Option<&str>) {
    let annotations = &mut pod["metadata"]["annotations"];
    annotations[HOLDER] = holder.into();
    annotations[HELD_BY] = agentkernel_far::user_here().into();
    if let Some(story) = story.filter(|story| story.len() <= LONGEST) {
        annotations[STORY] = story.into();
    }
}

/// Which holder this machine is of the sandbox whose layers are there; one is made up where there was none.
pub fn own_holder(layers: &Path) -> io::Result<String> {
    let file = KeyFile::read(layers.join(HOLDER_FILE))?;
    let key = match file.key {
        Some(key) => key,
        None => {
            let key = agentkernel_far::random()?;
            file.write(&key)?;
            key
        }
    };
    Ok(hex(&key))
}

/// Who has the pod, if that is not who was given. What was made before there were holders is everybody's.
fn other_holder(pod: &Pod, own: Option<&str>) -> Option<String> {
    let there = annotation(pod, HOLDER)?;
    (own != Some(there)).then(|| held_by(pod))
}

/// Who has a pod of the order's, if somebody else has by now.
pub fn lost_to(pod: &Pod, order: &Order) -> Option<String> {
    order.holder.as_deref().and_then(|own| other_holder(pod, Some(own)))
}

/// The error of whoever has lost it.
pub fn lost(to: &str) -> BootError {
    BootError::Refused {
        why: format!("the sandbox was adopted by {to}, and lives on there"),
        fix: "agentkernel adopt NAME -B kubernetes takes it back; agentkernel rm forgets it here"
            .into(),
    }
}

pub fn adopt(order: Adopt<'_>) -> Result<Vec<Elsewhere>, BootError> {
    let settings = Settings::read()?;
    runtime()?.block_on(async {
        let client = Client::find(settings).await?;
        match order {
            Adopt::List => list(&client).await,
            Adopt::Take { name, seen, layers } => {
                take(&client, name, seen, layers).await.map(|()| Vec::new())
            }
        }
    })
}

async fn list(client: &Client) -> Result<Vec<Elsewhere>, BootError> {
    let kept = ListParams::default().labels(&format!("{MANAGED}={MANAGER},{KEPT_LABEL}=true"));
    let found = client.pods().list(&kept).await;
    let found = found.map_err(|error| client.refusal("list", "pods", &error))?;
    Ok(found.iter().filter_map(elsewhere).collect())
}

fn elsewhere(pod: &Pod) -> Option<Elsewhere> {
    let name = names::sandbox(pod.metadata.name.as_deref()?)?.to_owned();
    let ended = match judge(pod) {
        Verdict::Never { why, .. } => Some(why),
        Verdict::Waits | Verdict::Runs => None,
    };
    Some(Elsewhere {
        name,
        story: annotation(pod, STORY).map(Into::into),
        holder: held_by(pod),
        ended,
        seen: annotation(pod, HOLDER).unwrap_or_default().to_owned(),
    })
}

/// Makes the pod of the sandbox ours, if it is still that holder's who was seen.
async fn take(client: &Client, name: &str, seen: &str, layers: &Path) -> Result<(), BootError> {
    let own = agentkernel_far::random();
    let own = own.map_err(|error| failed("can't get random numbers", error))?;
    let (pods, name) = (client.pods(), names::kept(name));
    for _ in 0..TRIES {
        let found = pods.get_opt(&name).await;
        let found = found.map_err(|error| client.refusal("get", "pods", &error))?;
        let pod = found.ok_or_else(|| BootError::Refused {
            why: format!("there is no pod {name} any more"),
            fix: "agentkernel adopt shows which there are".into(),
        })?;
        if annotation(&pod, HOLDER).unwrap_or_default() != seen {
            return Err(BootError::Refused {
                why: format!("{} was faster, and has adopted it", held_by(&pod)),
                fix: "agentkernel adopt shows who has which".into(),
            });
        }
        let key = annotation(&pod, KEY)
            .and_then(of_hex)
            .ok_or_else(|| failed("the pod's agent can't be talked to", "its key is damaged"))?;
        let patch = Patch::Merge(patch(&pod, &hex(&own)));
        match pods.patch(&name, &PatchParams::default(), &patch).await {
            Ok(_) => {
                let write = |file: &str, key| KeyFile::read(layers.join(file))?.write(key);
                let written = write(names::KEY_FILE, &key).and_then(|()| write(HOLDER_FILE, &own));
                return written.map_err(|error| failed("can't write down whose the pod is", error));
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(client.refusal("patch", "pods", &error)),
        }
    }
    Err(failed("the pod can't be adopted", "it changes all the time"))
}

/// What makes a pod, as it was seen, that holder's.
fn patch(pod: &Pod, holder: &str) -> Value {
    json!({
        "metadata": {
            "resourceVersion": pod.metadata.resource_version,
            "uid": pod.metadata.uid,
            "labels": { OWNER: agentkernel_far::owner() },
            "annotations": { HOLDER: holder, HELD_BY: agentkernel_far::user_here() },
        },
    })
}

/// Removes the pod of a sandbox, if it is there and nobody else has it by now than who has these layers.
pub fn forget(name: &str, layers: Option<&Path>) -> Result<(), DestroyError> {
    let name = names::kept(name);
    let own = layers.map(|layers| KeyFile::read(layers.join(HOLDER_FILE))).transpose();
    let left = |why: String| DestroyError {
        what: format!("the pod {name}"),
        source: io::Error::other(why),
    };
    let own = own.map_err(|error| left(error.to_string()))?.and_then(|file| file.key);
    let own = own.map(|key| hex(&key));
    let removed = Settings::read().and_then(|settings| {
        runtime()?.block_on(async {
            let client = Client::find(settings).await?;
            remove(&client, &name, own.as_deref()).await
        })
    });
    removed.map_err(|error| left(error.to_string()))
}

/// Removes the pod of this name, unless it is not there or another's by now than the holder `own`.
pub async fn remove(client: &Client, name: &str, own: Option<&str>) -> Result<(), BootError> {
    let pods = client.pods();
    for _ in 0..TRIES {
        let found = pods.get_opt(name).await;
        let Some(pod) = found.map_err(|error| client.refusal("get", "pods", &error))? else {
            return Ok(());
        };
        if other_holder(&pod, own).is_some() {
            return Ok(());
        }
        let seen = Preconditions {
            uid: pod.metadata.uid,
            resource_version: pod.metadata.resource_version,
        };
        let now = DeleteParams::default().grace_period(0).preconditions(seen);
        match pods.delete(name, &now).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(client.refusal("delete", "pods", &error)),
        }
    }
    Err(failed("it can't be removed", "it changes all the time"))
}

fn held_by(pod: &Pod) -> String {
    annotation(pod, HELD_BY).unwrap_or("somebody").to_owned()
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(holder: Option<&str>) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": "agentkernel-0123456789ab", "uid": "u", "resourceVersion": "7",
                "annotations": {},
            },
        });
        if let Some(holder) = holder {
            describe(&mut pod, holder, Some("story"));
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn whoever_finds_another_holder_has_lost_it() {
        let ours = Order { holder: Some("ours".into()), ..Order::default() };
        assert_eq!(lost_to(&pod(Some("ours")), &ours), None);
        assert!(lost_to(&pod(Some("theirs")), &ours).is_some());
        // One of before there were any, and one that is not kept.
        assert_eq!(lost_to(&pod(None), &ours), None);
        assert_eq!(lost_to(&pod(Some("theirs")), &Order::default()), None);
        // Who does not know whose it was does not remove it.
        assert!(other_holder(&pod(Some("theirs")), None).is_some());
    }

    #[test]
    fn it_is_found_as_it_was_told_and_taken_as_it_was_seen() {
        let found = elsewhere(&pod(Some("ours"))).unwrap();
        assert_eq!((found.name.as_str(), found.seen.as_str()), ("0123456789ab", "ours"));
        assert_eq!((found.story.as_deref(), found.ended), (Some("story"), None));
        let patch = patch(&pod(None), "mine");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["annotations"][HOLDER], "mine");
    }

    #[test]
    fn a_story_that_no_pod_can_have_is_left_out() {
        let mut pod = json!({ "metadata": { "annotations": {} } });
        describe(&mut pod, "ours", Some(&"x".repeat(LONGEST + 1)));
        assert!(pod["metadata"]["annotations"][STORY].is_null());
    }

    #[test]
    fn a_holder_is_made_up_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = own_holder(folder.path()).unwrap();
        assert_eq!(own_holder(folder.path()).unwrap(), first);
    }
}
