//! Tokens and temporary access keys.

use sqlx::SqliteConnection;

use super::open::{bytes16, expect_rows};
use crate::domain::id::{DomainId, ProjectId, UserId};
use crate::domain::session::{AccessKeyId, Scope, SecretDigest, Session, TemporaryKey};
use crate::domain::time::Timestamp;
use crate::store::StoreError;

/// The token that is known by `digest`, expired or not; or `None`.
pub(crate) async fn token(
    conn: &mut SqliteConnection,
    digest: SecretDigest,
) -> Result<Option<Session>, StoreError> {
    let key = &digest.as_bytes()[..];
    let row = sqlx::query!(
        "select user_id, project_id, domain_id, method, credentials, issued_at, expires_at from token where digest = ?",
        key,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let corrupt = |what: &str| StoreError::corrupt("token", format!("{digest}: {what}"));
    let scope = match (&row.project_id, &row.domain_id) {
        (Some(project_id), None) => Scope::Project(ProjectId::from_bytes(bytes16("token", project_id)?)),
        (None, Some(domain_id)) => Scope::Domain(DomainId::from_bytes(bytes16("token", domain_id)?)),
        _ => return Err(corrupt("its scope")),
    };
    Ok(Some(Session {
        digest,
        user_id: UserId::from_bytes(bytes16("token", &row.user_id)?),
        scope,
        method: row.method.parse().map_err(|_unknown| corrupt("its method"))?,
        credentials: SecretDigest::from_bytes(
            row.credentials.try_into().map_err(|_wrong_length| corrupt("credentials"))?,
        ),
        issued_at: time(row.issued_at).ok_or_else(|| corrupt("issued_at"))?,
        expires_at: time(row.expires_at).ok_or_else(|| corrupt("expires_at"))?,
    }))
}

/// The temporary key, expired or not; or `None`.
pub(crate) async fn temporary_key(
    conn: &mut SqliteConnection,
    access_key: &AccessKeyId,
) -> Result<Option<TemporaryKey>, StoreError> {
    let key = access_key.as_str();
    let row = sqlx::query!(
        "select digest, user_id, issued_at, expires_at from temporary_key where access_key = ?",
        key,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let corrupt = |what: &str| StoreError::corrupt("temporary_key", format!("{access_key}: {what}"));
    let digest = row.digest.try_into().map_err(|_wrong_length| corrupt("its digest"))?;
    Ok(Some(TemporaryKey {
        access_key: access_key.clone(),
        digest: SecretDigest::from_bytes(digest),
        user_id: UserId::from_bytes(bytes16("temporary_key", &row.user_id)?),
        issued_at: time(row.issued_at).ok_or_else(|| corrupt("issued_at"))?,
        expires_at: time(row.expires_at).ok_or_else(|| corrupt("expires_at"))?,
    }))
}

/// Whether anything expired at `until` or before.
pub(crate) async fn has_expired(conn: &mut SqliteConnection, until: Timestamp) -> Result<bool, StoreError> {
    let until = until.as_millis().cast_signed();
    let row = sqlx::query!(
        "select exists (select 1 from token where expires_at <= ?)
             or exists (select 1 from temporary_key where expires_at <= ?)
             or exists (select 1 from idempotency_key where expires_at <= ?) as 'has: bool'",
        until,
        until,
        until,
    )
    .fetch_one(conn)
    .await?;
    Ok(row.has)
}

/// Keeps a token.
pub(crate) async fn insert_token(conn: &mut SqliteConnection, session: &Session) -> Result<(), StoreError> {
    let (digest, user_id) = (&session.digest.as_bytes()[..], &session.user_id.as_bytes()[..]);
    let (project_id, domain_id) = match &session.scope {
        Scope::Project(project_id) => (Some(&project_id.as_bytes()[..]), None),
        Scope::Domain(domain_id) => (None, Some(&domain_id.as_bytes()[..])),
    };
    let (method, credentials) = (session.method.name(), &session.credentials.as_bytes()[..]);
    let (issued_at, expires_at) = (millis(session.issued_at), millis(session.expires_at));
    let done = sqlx::query!(
        "insert into token (digest, user_id, project_id, domain_id, method, credentials, issued_at, expires_at)
         values (?, ?, ?, ?, ?, ?, ?, ?)",
        digest,
        user_id,
        project_id,
        domain_id,
        method,
        credentials,
        issued_at,
        expires_at,
    )
    .execute(conn)
    .await?;
    expect_rows("token", done.rows_affected(), 1)
}

/// Forgets a token.
pub(crate) async fn delete_token(
    conn: &mut SqliteConnection,
    digest: SecretDigest,
) -> Result<(), StoreError> {
    let key = &digest.as_bytes()[..];
    let done = sqlx::query!("delete from token where digest = ?", key).execute(conn).await?;
    expect_rows("token", done.rows_affected(), 1)
}

/// Keeps a temporary key.
pub(crate) async fn insert_temporary_key(
    conn: &mut SqliteConnection,
    key: &TemporaryKey,
) -> Result<(), StoreError> {
    let access_key = key.access_key.as_str();
    let (digest, user_id) = (&key.digest.as_bytes()[..], &key.user_id.as_bytes()[..]);
    let (issued_at, expires_at) = (millis(key.issued_at), millis(key.expires_at));
    let done = sqlx::query!(
        "insert into temporary_key (access_key, digest, user_id, issued_at, expires_at) values (?, ?, ?, ?, ?)",
        access_key,
        digest,
        user_id,
        issued_at,
        expires_at,
    )
    .execute(conn)
    .await?;
    expect_rows("temporary_key", done.rows_affected(), 1)
}

/// Forgets what expired at `until` or before.
pub(crate) async fn delete_expired(conn: &mut SqliteConnection, until: Timestamp) -> Result<(), StoreError> {
    let until = millis(until);
    sqlx::query!("delete from token where expires_at <= ?", until).execute(&mut *conn).await?;
    sqlx::query!("delete from temporary_key where expires_at <= ?", until).execute(&mut *conn).await?;
    sqlx::query!("delete from idempotency_key where expires_at <= ?", until).execute(conn).await?;
    Ok(())
}

fn millis(time: Timestamp) -> i64 {
    time.as_millis().cast_signed()
}

fn time(millis: i64) -> Option<Timestamp> {
    u64::try_from(millis).ok().map(Timestamp::from_millis)
}
