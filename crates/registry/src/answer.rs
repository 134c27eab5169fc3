//! What registries answer, read with a bound, and what is made of answers that are none.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::RegistryError;
use crate::error::{Again, Trouble};
use crate::patience::Patience;

/// How much is read of what a registry says of an error, in bytes, and how much of it is told.
const MAX_WORDS: u64 = 16 << 10;
const MAX_TOLD: usize = 200;

/// Why a request brought no answer, or no whole one.
pub fn broken(registry: &str, error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    let registry = registry.to_owned();
    if error.is_redirect() {
        let why = deepest(&error);
        return RegistryError::Nonsense { registry, why }.into();
    }
    if let Some(why) = certificate(&error) {
        return RegistryError::Unproven { registry, why }.into();
    }
    let why = deepest(&error);
    if !error.is_connect() {
        return Trouble::later(RegistryError::Broken { registry, why });
    }
    let is_name = chain(&error).any(|error| error.to_string().starts_with("dns error"));
    let why = if is_name { format!("its name can't be looked up: {why}") } else { why };
    // Whoever could not be asked may be asked later; a name that is not known stays so.
    let is_unknown = is_name && why.contains("not known");
    let error = RegistryError::Unreachable { registry, why, is_name };
    if is_unknown { error.into() } else { Trouble::later(error) }
}

/// What an error comes from, from it downwards.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| source(*error))
}

fn source<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // The source of such an error is that of what it holds, which it passes over.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

fn deepest(error: &reqwest::Error) -> String {
    clean(&chain(error).last().map(ToString::to_string).unwrap_or_default())
}

/// What is wrong with who answers, if that is it.
fn certificate(error: &reqwest::Error) -> Option<String> {
    let found = chain(error).find_map(|error| error.downcast_ref::<rustls::Error>())?;
    match found {
        rustls::Error::InvalidCertificate(why) => Some(clean(&why.to_string())),
        _ => None,
    }
}

/// How long an answer asks to be left alone, in seconds. As a date, which is rare, it says nothing.
pub fn wait(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// What went wrong where the status says that something did.
pub fn refused(
    status: StatusCode,
    wait: Option<Duration>,
    longest: Duration,
    registry: String,
    told: String,
) -> Trouble {
    let is_passing = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
    if let Some(wait) = wait.filter(|wait| is_passing && *wait > longest) {
        return RegistryError::Busy { registry, wait, told }.into();
    }
    let again = if is_passing { Again::Later(wait) } else { Again::Never };
    Trouble { error: RegistryError::Status { registry, status: status.as_u16(), told }, again }
}

/// A registry's own words for what went wrong, as its specification has it
/// (opencontainers/distribution-spec, "Error Codes").
pub async fn words(response: Response, patience: &Patience) -> Result<String, RegistryError> {
    // An error is an error, whatever is said of it.
    let text = match read(response, MAX_WORDS, patience).await? {
        Ok(text) => text,
        Err(_) => return Ok(String::new()),
    };
    let Ok(content) = serde_json::from_slice::<Value>(&text) else { return Ok(String::new()) };
    let first = &content["errors"][0];
    let said = [&first["message"], &first["code"], &content["details"], &content["error"]];
    let told = said.into_iter().find_map(|said| said.as_str().filter(|said| !said.is_empty()));
    Ok(clean(told.unwrap_or_default()))
}

/// Words from elsewhere, on one line and not too long.
pub fn clean(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_TOLD).collect::<String>().trim().to_owned()
}

/// Why the body of an answer could not be read.
pub enum Unread {
    TooLong,
    Silent,
    Broken(reqwest::Error),
}

impl Unread {
    pub fn of(self, registry: &str, most: u64) -> Trouble {
        let registry = registry.to_owned();
        match self {
            Self::TooLong => {
                let why = format!("it has more than {most} bytes");
                RegistryError::Nonsense { registry, why }.into()
            }
            Self::Silent => silent(&registry),
            Self::Broken(error) => broken(&registry, error),
        }
    }
}

/// Nothing came for too long.
pub fn silent(registry: &str) -> Trouble {
    let why = "nothing came any more".into();
    Trouble::later(RegistryError::Broken { registry: registry.into(), why })
}

/// All that is answered, if that is at most so many bytes.
pub async fn read(
    mut response: Response,
    most: u64,
    patience: &Patience,
) -> Result<Result<Vec<u8>, Unread>, RegistryError> {
    let mut all = Vec::new();
    loop {
        match Patience::attend(patience.silence, response.chunk()).await? {
            None => return Ok(Err(Unread::Silent)),
            Some(Err(error)) => return Ok(Err(Unread::Broken(error))),
            Some(Ok(None)) => return Ok(Ok(all)),
            Some(Ok(Some(chunk))) => all.extend_from_slice(&chunk),
        }
        if all.len() as u64 > most {
            return Ok(Err(Unread::TooLong));
        }
    }
}

/// Whether it says of itself to be a page for people.
pub fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
}
