-- What people log in with for a while. A secret stands here as its SHA-256 alone.

pragma user_version = 2;

create table token (
    digest     blob    not null,
    user_id    blob    not null,
    -- What it is good for: a project, or an account as a whole.
    project_id blob,
    domain_id  blob,
    method     text    not null,
    issued_at  integer not null,
    expires_at integer not null,
    constraint token_key primary key (digest),
    constraint token_digest_is_32_bytes check (length(digest) = 32),
    constraint token_user_id_is_16_bytes check (length(user_id) = 16),
    constraint token_project_id_is_16_bytes check (length(project_id) = 16),
    constraint token_domain_id_is_16_bytes check (length(domain_id) = 16),
    constraint token_has_one_scope check ((project_id is null) <> (domain_id is null))
) strict, without rowid;

create index token_expires_at on token (expires_at);

create table temporary_key (
    access_key text    not null,
    -- Of the security token; the secret key is not kept, but worked out from it.
    digest     blob    not null,
    user_id    blob    not null,
    issued_at  integer not null,
    expires_at integer not null,
    constraint temporary_key_key primary key (access_key),
    constraint temporary_key_digest_is_32_bytes check (length(digest) = 32),
    constraint temporary_key_user_id_is_16_bytes check (length(user_id) = 16)
) strict, without rowid;

create index temporary_key_expires_at on temporary_key (expires_at);
