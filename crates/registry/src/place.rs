//! A registry or a mirror of one, and how it is asked.

use std::env;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentkernel_core::{Registries, mirrored};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

use crate::answer::{self, broken, silent};
use crate::challenge::{self, Challenge};
use crate::credentials::{self, Credentials, Secret};
use crate::error::Trouble;
use crate::patience::Patience;
use crate::{RegistryError, tls};

/// Where the default registry really is.
const DEFAULT: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// How long is waited for somebody who may speak TLS.
const GREETING: Duration = Duration::from_secs(3);

/// How much is read of what gives a token, in bytes.
const MAX_TOKEN: u64 = 256 << 10;

/// As itself, where it is asked who comes.
const CLIENT: &str = "agentkernel";

/// Who may have an image.
pub struct Place {
    /// As the user calls it.
    pub name: String,
    /// What it calls the image, without tag and digest.
    pub repository: String,
    client: reqwest::Client,
    patience: Patience,
    /// It need not prove who it is, nor speak TLS.
    is_open: bool,
    scheme: OnceCell<&'static str>,
    credentials: OnceLock<Credentials>,
    authorization: Mutex<Option<HeaderValue>>,
    is_lost: AtomicBool,
}

impl Place {
    pub fn new(
        name: &str,
        repository: String,
        settings: &Registries,
        patience: Patience,
    ) -> Result<Self, RegistryError> {
        let settings = settings.of(name);
        let is_here = is_loopback(name);
        let is_open = settings.insecure || (is_here && settings.ca.is_none());
        Ok(Self {
            name: name.into(),
            repository,
            client: tls::client(&settings, is_open, is_here, patience.connect)?,
            patience,
            is_open,
            scheme: OnceCell::new(),
            credentials: OnceLock::new(),
            authorization: Mutex::new(None),
            is_lost: AtomicBool::new(false),
        })
    }

    /// The one that is named as a mirror.
    pub fn mirror(
        mirror: &str,
        repository: &str,
        settings: &Registries,
        patience: Patience,
    ) -> Result<Self, RegistryError> {
        let mirrored = mirrored(mirror, repository).map_err(|why| RegistryError::Refused {
            why: format!("{mirror:?} is not a mirror: {why}"),
            fix: "name it as HOST, HOST:PORT or HOST:PORT/FOLDER, without https://".into(),
        });
        let (host, repository) = mirrored?;
        Self::new(&host, repository, settings, patience)
    }

    /// Whether it is of no use to ask it anything.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    pub fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Asks for `path` of the repository, from byte `from` on. What is answered is 200 or 206.
    pub async fn ask(
        &self,
        path: &str,
        what: &str,
        accept: Option<&str>,
        from: u64,
    ) -> Result<Response, Trouble> {
        let host = if self.name == DEFAULT.0 { DEFAULT.1 } else { &self.name };
        let url = format!("{}://{host}/v2/{}/{path}", self.scheme(host).await?, self.repository);
        let mut authorization = self.authorization.lock().await.clone();
        // Once with what was good before, once with what is new, and once with what others got.
        for _ in 0..3 {
            let mut request = self.client.get(&url);
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = self.send(request).await?;
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::UNAUTHORIZED => {
                    authorization = Some(self.authorize(response, what, authorization).await?);
                }
                StatusCode::FORBIDDEN => return Err(self.denied(what, response).await?),
                _ => return Err(self.refused(what, response).await?),
            }
        }
        let told = "what it gave to come in with is not enough for it".into();
        Err(RegistryError::Denied {
            registry: self.name.clone(),
            what: what.into(),
            known: self.credentials().known.clone().into(),
            told,
        }
        .into())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        match Patience::attend(self.patience.silence, request.send()).await? {
            None => Err(silent(&self.name)),
            Some(sent) => sent.map_err(|error| broken(&self.name, error)),
        }
    }

    /// Whether TLS is spoken, which is tried with those that need not.
    async fn scheme(&self, host: &str) -> Result<&'static str, Trouble> {
        if !self.is_open {
            return Ok("https");
        }
        let find = async || {
            let greeting = self.client.get(format!("https://{host}/v2/")).send();
            match Patience::attend(GREETING, greeting).await? {
                Some(Ok(_)) => Ok("https"),
                // Why it can't be reached, if it can't, shows without TLS as well.
                Some(Err(_)) | None => Ok::<_, Trouble>("http"),
            }
        };
        self.scheme.get_or_try_init(find).await.copied()
    }

    fn credentials(&self) -> &Credentials {
        let find = || credentials::find(&self.name, &self.repository, &|name| env::var_os(name));
        self.credentials.get_or_init(find)
    }

    async fn denied(&self, what: &str, response: Response) -> Result<Trouble, RegistryError> {
        let told = self.words(response).await?;
        let known = self.credentials().known.clone().into();
        Ok(RegistryError::Denied { registry: self.name.clone(), what: what.into(), known, told }
            .into())
    }

    async fn refused(&self, what: &str, response: Response) -> Result<Trouble, RegistryError> {
        let (status, wait) = (response.status(), answer::wait(&response));
        let (registry, told) = (self.name.clone(), self.words(response).await?);
        Ok(match status {
            StatusCode::NOT_FOUND => RegistryError::Missing { registry, what: what.into() }.into(),
            _ => answer::refused(status, wait, self.patience.longest, registry, told),
        })
    }

    /// A registry's own words, unless they repeat what it was shown.
    async fn words(&self, response: Response) -> Result<String, RegistryError> {
        let told = answer::words(response, &self.patience).await?;
        let shown = match self.credentials.get().and_then(|found| found.secret.as_ref()) {
            Some(Secret::Password { password, .. }) => Some(password),
            Some(Secret::Identity(token)) => Some(token),
            None => None,
        };
        // Whoever holds it is about to have another one.
        let token = self.authorization.try_lock().ok().and_then(|token| token.clone());
        let token = token.as_ref().and_then(|token| token.to_str().ok()?.split(' ').nth(1));
        let mut secrets = shown.map(String::as_str).into_iter().chain(token);
        Ok(if secrets.any(|secret| told.contains(secret)) { String::new() } else { told })
    }

    /// Meets the challenge of an answer to a request that was made with `sent`.
    async fn authorize(
        &self,
        response: Response,
        what: &str,
        sent: Option<HeaderValue>,
    ) -> Result<HeaderValue, Trouble> {
        let mut current = self.authorization.lock().await;
        // Somebody else was told the same meanwhile, and has met it.
        if let Some(renewed) = current.as_ref().filter(|_| *current != sent) {
            return Ok(renewed.clone());
        }
        let met = match (challenge::of(response.headers()), &self.credentials().secret) {
            (Some(Challenge::Basic), Some(Secret::Password { user, password })) => {
                basic(&self.client, &response, user, password)
                    .filter(|met| Some(met) != sent.as_ref())
            }
            (Some(Challenge::Bearer { realm, service, scope }), secret) => {
                let token = self.token(realm, service, scope, secret.as_ref(), what).await?;
                challenge::bearer(&token)
            }
            _ => None,
        };
        let Some(met) = met else { return Err(self.denied(what, response).await?) };
        *current = Some(met.clone());
        Ok(met)
    }

    /// A token from whom the registry trusts to give some.
    async fn token(
        &self,
        mut realm: Url,
        service: Option<String>,
        scope: Option<String>,
        secret: Option<&Secret>,
        what: &str,
    ) -> Result<String, Trouble> {
        let nonsense = |why: &str| {
            let registry = self.name.clone();
            Trouble::from(RegistryError::Nonsense { registry, why: why.into() })
        };
        if realm.scheme() != "https" && !self.is_open {
            return Err(nonsense("it sends for a token to a place without TLS"));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut words = vec![("scope", scope.as_str())];
        words.extend(service.as_deref().map(|service| ("service", service)));
        let request = match secret {
            Some(Secret::Identity(token)) => {
                words.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", CLIENT),
                    ("refresh_token", token),
                ]);
                let kind = "application/x-www-form-urlencoded";
                let form = form(&words);
                self.client.post(realm).header(reqwest::header::CONTENT_TYPE, kind).body(form)
            }
            secret => {
                realm.query_pairs_mut().extend_pairs(&words);
                let request = self.client.get(realm);
                match secret {
                    Some(Secret::Password { user, password }) => {
                        request.basic_auth(user, Some(password))
                    }
                    _ => request,
                }
            }
        };
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => {}
            // Some say of a name that nobody has that it is not for everybody.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                return Err(self.denied(what, response).await?);
            }
            _ => return Err(self.refused("token", response).await?),
        }
        let text = answer::read(response, MAX_TOKEN, &self.patience).await?;
        let text = text.map_err(|unread| unread.of(&self.name, MAX_TOKEN))?;
        let content: Value = serde_json::from_slice(&text).unwrap_or_default();
        let token = [&content["token"], &content["access_token"]];
        let token = token.into_iter().find_map(|token| token.as_str().filter(|t| !t.is_empty()));
        token.map(String::from).ok_or_else(|| nonsense("there is no token in what gives tokens"))
    }
}

/// The words of a form as they are sent.
fn form(words: &[(&str, &str)]) -> String {
    // An address's query is written in the same way.
    let Ok(mut url) = Url::parse("http://form") else { return String::new() };
    url.query_pairs_mut().extend_pairs(words);
    url.query().unwrap_or_default().to_owned()
}

/// As the client would write it.
fn basic(
    client: &reqwest::Client,
    response: &Response,
    user: &str,
    password: &str,
) -> Option<HeaderValue> {
    let request = client.get(response.url().clone()).basic_auth(user, Some(password));
    request.build().ok()?.headers_mut().remove(AUTHORIZATION)
}

/// Whether a registry is on this machine by its name, with or without a port.
fn is_loopback(name: &str) -> bool {
    let host = match name.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => name.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_what_never_leaves_this_machine() {
        for name in
            ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000", "[::1]"]
        {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["localhost.example", "128.0.0.1", "[::2]:1", "ghcr.io", "127.0.0.1.example:1"]
        {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
