-- Groups, their members, and the audit log. Ids are 16 raw bytes; times are milliseconds since 1970.
-- To read one by hand: select lower(hex(group_id)), name from server_group;
--                      select seq, cast(bytes as text) from audit_record;

-- "ECSg", so that `file` and a start on somebody else's database can tell.
pragma application_id = 0x45435367;
pragma user_version = 1;

create table project (
    project_id      blob    not null,
    group_count     integer not null,
    -- The newest group it ever had, deleted or not: ids never go below it, whatever the clock does.
    newest_group_id blob    not null,
    constraint project_key primary key (project_id),
    constraint project_id_is_16_bytes check (length(project_id) = 16),
    constraint project_group_count_is_not_negative check (group_count >= 0),
    constraint project_newest_group_id_is_16_bytes check (length(newest_group_id) = 16)
) strict, without rowid;

-- The key's order is the order of creation within a project, since group ids are UUIDv7.
create table server_group (
    project_id     blob not null,
    group_id       blob not null,
    name           text not null,
    placement_rule text not null,
    created_by     blob not null,
    constraint server_group_key primary key (project_id, group_id),
    constraint server_group_project_id_is_16_bytes check (length(project_id) = 16),
    constraint server_group_id_is_16_bytes check (length(group_id) = 16)
) strict, without rowid;

create table member (
    project_id blob not null,
    group_id   blob not null,
    server_id  blob not null,
    constraint member_key primary key (project_id, group_id, server_id),
    -- An ECS belongs to one group at the most.
    constraint member_of_one_group unique (project_id, server_id),
    constraint member_server_id_is_16_bytes check (length(server_id) = 16),
    constraint member_of_a_group foreign key (project_id, group_id)
        references server_group (project_id, group_id) on delete cascade
) strict, without rowid;

-- `bytes` are the record; the other columns are drawn from it for filters.
create table audit_record (
    seq         integer primary key,
    project_id  blob,
    group_id    blob,
    record_time integer not null,
    bytes       blob    not null,
    -- RFC 6962: SHA-256(0x00 || bytes).
    leaf        blob    not null
) strict;

-- The right edge of the tree over the leaves 1 to `size`: its hashes, 32 bytes each, the largest subtree's first.
create table audit_edge (
    only_row     integer not null,
    size         integer not null,
    hashes       blob    not null,
    -- Records up to here may be deleted: they were sealed in a segment of their own first.
    sealed_up_to integer not null,
    constraint audit_edge_key primary key (only_row),
    constraint audit_edge_has_one_row check (only_row = 1),
    constraint audit_edge_hashes_match_size check (length(hashes) % 32 = 0)
) strict;

insert into audit_edge (only_row, size, hashes, sealed_up_to) values (1, 0, x'', 0);

create trigger audit_record_is_never_updated before update on audit_record
begin
    select raise(abort, 'audit_record_is_never_updated');
end;

-- `insert or replace` would delete without firing a delete trigger.
create trigger audit_record_is_never_replaced before insert on audit_record
when exists (select 1 from audit_record where seq = new.seq)
begin
    select raise(abort, 'audit_record_is_never_replaced');
end;

create trigger audit_record_is_deleted_only_when_sealed before delete on audit_record
when old.seq > coalesce((select sealed_up_to from audit_edge), 0)
begin
    select raise(abort, 'audit_record_is_deleted_only_when_sealed');
end;

create trigger audit_edge_is_never_deleted before delete on audit_edge
begin
    select raise(abort, 'audit_edge_is_never_deleted');
end;
