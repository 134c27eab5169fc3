//! Our types as columns. A value that makes no sense is an error, never a guess.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::{Id, Name, State, time};

/// A column's value that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Senseless(String);

fn senseless(why: impl Into<String>) -> FromSqlError {
    FromSqlError::Other(Box::new(Senseless(why.into())))
}

impl FromSql for Name {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(|err| FromSqlError::Other(Box::new(err)))
    }
}

impl ToSql for Name {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(|err| FromSqlError::Other(Box::new(err)))
    }
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        let known = Self::ALL.into_iter().find(|state| state.name() == text);
        known.ok_or_else(|| senseless(format!("{text:?} is no state of a sandbox")))
    }
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

/// A time, in milliseconds since 1970.
pub(super) struct Time(pub SystemTime);

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let millis = value.as_i64()?;
        let time = time::from_millis(millis);
        time.map(Self).ok_or_else(|| senseless(format!("{millis} is no time")))
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(time::to_millis(self.0).into())
    }
}

/// A span of time, in milliseconds.
pub(super) struct Span(pub Duration);

impl FromSql for Span {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let millis = value.as_i64()?;
        let span = u64::try_from(millis).map(Duration::from_millis);
        span.map(Self).map_err(|_| senseless(format!("{millis} is no span of time")))
    }
}

impl ToSql for Span {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        // Longer than the machine lasts is as long as can be written.
        Ok(i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX).into())
    }
}

/// Keys and values, as a JSON object.
pub(super) struct Labels<'a>(pub Cow<'a, BTreeMap<String, String>>);

impl FromSql for Labels<'_> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let labels = serde_json::from_str(value.as_str()?);
        labels
            .map(|labels| Self(Cow::Owned(labels)))
            .map_err(|err| FromSqlError::Other(Box::new(err)))
    }
}

impl ToSql for Labels<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0);
        let text = text.map_err(|err| rusqlite::Error::ToSqlConversionFailure(err.into()))?;
        Ok(text.into())
    }
}

/// Whole numbers that are never negative.
pub(super) struct Count(pub u64);

impl FromSql for Count {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let count = value.as_i64()?;
        u64::try_from(count).map(Self).map_err(|_| senseless(format!("{count} is no count")))
    }
}

impl ToSql for Count {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}
