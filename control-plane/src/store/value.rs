//! Values as rows hold them, read alike from both databases: instants, JSON columns, hidden texts.

use std::fmt;
use std::ops::Deref;

use chrono::{DateTime, NaiveDateTime, SubsecRound, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow, Queryable};
use diesel::sql_types::{self, SingleValue};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use super::job::JobState;
use crate::domain::{Hidden, Role};

/// An instant in UTC, to the microsecond: both databases keep that much. Serialized as RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromSqlRow)]
pub struct Time(NaiveDateTime);

impl Time {
    /// The present instant.
    pub fn now() -> Self {
        Utc::now().into()
    }

    /// With its zone.
    pub fn utc(self) -> DateTime<Utc> {
        self.0.and_utc()
    }

    /// As columns have it.
    pub(crate) fn naive(self) -> NaiveDateTime {
        self.0
    }
}

impl From<DateTime<Utc>> for Time {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant.naive_utc().trunc_subsecs(6))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%dT%H:%M:%S%.fZ"))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<DB: Backend> FromSql<sql_types::Timestamp, DB> for Time
where
    NaiveDateTime: FromSql<sql_types::Timestamp, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        NaiveDateTime::from_sql(bytes).map(Self)
    }
}

/// A column of JSON, as the type that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, FromSqlRow, Serialize)]
#[serde(transparent)]
pub struct Json<T>(pub T);

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<DB: Backend, T: DeserializeOwned> FromSql<sql_types::Json, DB> for Json<T>
where
    serde_json::Value: FromSql<sql_types::Json, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let value = serde_json::Value::from_sql(bytes)?;
        Ok(Self(serde_json::from_value(value)?))
    }
}

/// What a column of JSON gets.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("lists and maps of texts and numbers are JSON")
}

impl<DB: Backend> FromSql<sql_types::Text, DB> for Hidden
where
    String: FromSql<sql_types::Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        String::from_sql(bytes).map(Self::new)
    }
}

impl<DB: Backend> FromSql<sql_types::Text, DB> for Role
where
    String: FromSql<sql_types::Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(String::from_sql(bytes)?.parse()?)
    }
}

impl<DB: Backend, ST: SingleValue> Queryable<ST, DB> for Hidden
where
    Self: FromSql<ST, DB>,
{
    type Row = Self;

    fn build(row: Self) -> deserialize::Result<Self> {
        Ok(row)
    }
}

impl<DB: Backend, ST: SingleValue> Queryable<ST, DB> for Role
where
    Self: FromSql<ST, DB>,
{
    type Row = Self;

    fn build(row: Self) -> deserialize::Result<Self> {
        Ok(row)
    }
}

impl<DB: Backend> FromSql<sql_types::Text, DB> for JobState
where
    String: FromSql<sql_types::Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let text = String::from_sql(bytes)?;
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.ok_or_else(|| "no state of a job".into())
    }
}

impl<DB: Backend, ST: SingleValue> Queryable<ST, DB> for JobState
where
    Self: FromSql<ST, DB>,
{
    type Row = Self;

    fn build(row: Self) -> deserialize::Result<Self> {
        Ok(row)
    }
}
