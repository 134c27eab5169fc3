//! A connection to a cluster, and what its errors mean.

use std::env;
use std::io;

use agentkernel_core::BootError;
use http::Uri;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::client::ConfigExt;
use kube::client::retry::RetryPolicy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Config, Error};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceBuilder;
use tower::retry::RetryLayer;

use crate::settings::Settings;

/// How long the cluster may take for the beginning of an answer that is not a watch's.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What to do where a certificate is not valid now, and where nothing answers.
const CLOCKS: &str = "compare this machine's clock with the cluster's; if both are right, have the \
                      certificate renewed";
const ASTRAY: &str =
    "see that it runs and that the kubeconfig leads there (KUBECONFIG, KUBERNETES_CONTEXT)";

/// A cluster that is known where it is. It is not asked for anything yet.
pub struct Client {
    pub client: kube::Client,
    pub namespace: String,
    pub settings: Settings,
    /// Where it is.
    pub cluster: Uri,
}

/// A runtime on which all words with a cluster are. On a thread of its own nothing runs.
pub fn runtime() -> Result<Runtime, BootError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| BootError::Failed {
        what: "can't set up the connection to the cluster".into(),
        source,
    })
}

impl Client {
    /// Finds the cluster of the settings: by a kubeconfig if there is one, else from inside a cluster.
    /// Must be called on a [`runtime`].
    pub async fn find(settings: Settings) -> Result<Self, BootError> {
        let config = config(&settings).await?;
        let cluster = config.cluster_url.clone();
        let namespace =
            settings.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = connected(config).map_err(|error| BootError::Unavailable {
            why: format!("the cluster at {cluster} can't be used: {}", root(&error)),
            fix: "correct the kubeconfig".into(),
        })?;
        Ok(Self { client, namespace, settings, cluster })
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn events(&self) -> Api<Event> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What it means that the cluster does not let us `verb` some `resource`.
    pub fn refusal(&self, verb: &str, resource: &str, error: &Error) -> BootError {
        let Self { namespace, cluster, .. } = self;
        let (why, fix): (String, String) = match error {
            Error::Api(status) => match status.code {
                401 => {
                    return BootError::Unavailable {
                        why: format!(
                            "the cluster at {cluster} does not know the caller: the \
                                      credentials are wrong or expired"
                        ),
                        fix: "log in to the cluster again, as for kubectl".into(),
                    };
                }
                403 if status.message.contains("exceeded quota") => (
                    format!("a quota of the namespace {namespace} is exceeded: {}", status.message),
                    "ask for less, end other sandboxes, or have the quota raised".into(),
                ),
                403 if is_terminating(&status.message) => (
                    format!("the namespace {namespace} is terminating, and takes nothing new"),
                    "name another one in KUBERNETES_NAMESPACE".into(),
                ),
                403 if status.message.contains("cannot ") => (
                    format!(
                        "the cluster forbids to {verb} {resource} in the namespace {namespace}: {}",
                        status.message
                    ),
                    format!(
                        "have the verb {verb:?} on {resource:?} granted, as docs/kubernetes.md has \
                         the roles"
                    ),
                ),
                404 if status.message.contains("namespaces") => (
                    format!("the cluster at {cluster} has no namespace {namespace}"),
                    "name another one in KUBERNETES_NAMESPACE".into(),
                ),
                _ => (
                    format!("the cluster refuses to {verb} {resource}: {}", status.message),
                    "ask for less, or see what its admission demands".into(),
                ),
            },
            other => {
                let why = root(other);
                let untimely = ["Expired", "NotValidYet"].iter().any(|word| why.contains(word));
                let fix = if untimely { CLOCKS } else { ASTRAY };
                return BootError::Unavailable {
                    why: format!("the cluster at {cluster} can't be reached: {why}"),
                    fix: fix.into(),
                };
            }
        };
        BootError::Refused { why, fix }
    }
}

/// The client as kube makes it, but that small words are sent at once: held back until the last one has been
/// acknowledged, every second word of a stream takes 40 ms. A proxy is kube's own matter.
fn connected(config: Config) -> Result<kube::Client, Error> {
    if config.proxy_url.is_some() {
        return kube::Client::try_from(config);
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let mut connector = TimeoutConnector::new(connector);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let again = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(again)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(
            hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector),
        );
    Ok(kube::Client::new(service, config.default_namespace))
}

fn is_terminating(message: &str) -> bool {
    message.contains("being terminated") || message.contains("is terminating")
}

async fn config(settings: &Settings) -> Result<Config, BootError> {
    let unavailable = |why: String, fix: &str| BootError::Unavailable { why, fix: fix.into() };
    let home = env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".kube/config"));
    let named = env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
    if named || home.is_some_and(|path| path.exists()) {
        let options = KubeConfigOptions { context: settings.context.clone(), ..Default::default() };
        let read = Kubeconfig::read().map_err(|error| root(&error));
        let config = match read {
            Ok(read) => Config::from_custom_kubeconfig(read, &options).await.map_err(|e| root(&e)),
            Err(why) => Err(why),
        };
        return config.map_err(|why| {
            unavailable(
                format!("the kubeconfig can't be used: {why}"),
                "correct KUBECONFIG and KUBERNETES_CONTEXT, or the file that they name",
            )
        });
    }
    if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Config::incluster().map_err(|error| {
            unavailable(
                format!("the cluster around this pod can't be used: {}", root(&error)),
                "give the pod a service account, or set KUBECONFIG",
            )
        });
    }
    Err(unavailable(
        "no cluster is known: there is no kubeconfig, and this is no pod".into(),
        "set KUBECONFIG to the file that kubectl uses",
    ))
}

/// The innermost words of an error, which say what it was.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut found = error;
    while let Some(source) = found.source() {
        found = source;
    }
    found.to_string()
}

/// An error without better words.
pub fn failed(what: &str, why: impl std::fmt::Display) -> BootError {
    BootError::Failed { what: what.into(), source: io::Error::other(why.to_string()) }
}
