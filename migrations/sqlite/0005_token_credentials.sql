-- A token ends when what its user logs in with changes. Those that were given out before this was known end here.

pragma user_version = 5;

delete from token;

alter table token add column credentials blob not null default x''
    constraint token_credentials_is_32_bytes check (length(credentials) = 32);
