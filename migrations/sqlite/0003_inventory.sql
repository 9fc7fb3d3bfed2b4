-- The ECSs that the inventory knows. A member need not be one of them, unless members.source = "registered".

pragma user_version = 3;

create table server (
    project_id blob not null,
    server_id  blob not null,
    name       text not null,
    status     text not null,
    -- null when it is not known.
    host       text,
    constraint server_key primary key (project_id, server_id),
    constraint server_project_id_is_16_bytes check (length(project_id) = 16),
    constraint server_id_is_16_bytes check (length(server_id) = 16)
) strict, without rowid;
