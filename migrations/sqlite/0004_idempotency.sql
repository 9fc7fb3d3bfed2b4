-- The answers to requests that were sent with an Idempotency-Key, so that the same request has the same answer.

pragma user_version = 4;

create table idempotency_key (
    -- SHA-256 over user, project, path and key.
    digest      blob    not null,
    -- SHA-256 of the request's body.
    body_digest blob    not null,
    -- What was decided, as JSON.
    outcome     text    not null,
    expires_at  integer not null,
    constraint idempotency_key_key primary key (digest),
    constraint idempotency_key_digest_is_32_bytes check (length(digest) = 32),
    constraint idempotency_key_body_digest_is_32_bytes check (length(body_digest) = 32)
) strict, without rowid;

create index idempotency_key_expires_at on idempotency_key (expires_at);
