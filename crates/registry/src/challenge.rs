//! What a registry asks of who comes, and what it is answered.

use http_auth::parser::ChallengeParser;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

/// How a registry wants to know who comes (RFC 7235).
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    /// By a token that somebody else gives, at `realm`
    /// (<https://distribution.github.io/distribution/spec/auth/token/>).
    Bearer {
        realm: Url,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// The challenge in an answer that can be met best, if there is one.
pub fn of(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let mut best = None;
    for challenge in values.filter_map(|value| value.to_str().ok()).flat_map(ChallengeParser::new) {
        // What is no challenge ends the line.
        let Ok(challenge) = challenge else { continue };
        let parameter = |name: &str| {
            let mut found = challenge.params.iter();
            let found = found.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        if challenge.scheme.eq_ignore_ascii_case("bearer") {
            let realm = parameter("realm").and_then(|realm| Url::parse(&realm).ok());
            if let Some(realm) = realm.filter(|realm| matches!(realm.scheme(), "http" | "https")) {
                let (service, scope) = (parameter("service"), parameter("scope"));
                return Some(Challenge::Bearer { realm, service, scope });
            }
        } else if challenge.scheme.eq_ignore_ascii_case("basic") {
            best = Some(Challenge::Basic);
        }
    }
    best
}

/// An authorization, which is shown nowhere. None if it is none that can be sent.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(lines: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap());
        }
        of(&headers)
    }

    #[test]
    fn the_best_challenge_is_found_among_several() {
        let bearer =
            r#"Bearer realm="https://a.example/token",service="s",scope="repository:x:pull""#;
        let expected = Challenge::Bearer {
            realm: Url::parse("https://a.example/token").unwrap(),
            service: Some("s".into()),
            scope: Some("repository:x:pull".into()),
        };
        assert_eq!(challenge(&[bearer]).as_ref(), Some(&expected));
        assert_eq!(challenge(&["Basic realm=\"r\"", bearer]).as_ref(), Some(&expected));
        let one = format!("Basic realm=\"r\", {bearer}");
        assert_eq!(challenge(&[&one]).as_ref(), Some(&expected));
        assert_eq!(challenge(&["basic realm=\"r\""]), Some(Challenge::Basic));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for line in [
            "",
            "Digest realm=\"r\"",
            "Bearer",
            "Bearer realm=\"\"",
            "Bearer realm=\"file:///etc/passwd\"",
            "Bearer realm=\"/token\"",
            ",,,",
            "Bearer realm=",
        ] {
            assert_eq!(challenge(&[line]), None, "{line}");
        }
    }
}
