-- What the log was at some sizes, signed; the keys that sign; where a reset cut the listings; and what listings are
-- looked up by.

pragma user_version = 6;

create table audit_checkpoint (
    checkpoint_id integer primary key,
    size          integer not null,
    -- The right edge of the tree at that size, so that what came after can be checked without what came before.
    hashes        blob    not null,
    -- A C2SP signed note.
    note          text    not null,
    constraint audit_checkpoint_hashes_match_size check (length(hashes) % 32 = 0)
) strict;

-- Both columns only grow, so this costs next to nothing.
create index audit_checkpoint_size on audit_checkpoint (size);

create trigger audit_checkpoint_is_never_updated before update on audit_checkpoint
begin
    select raise(abort, 'audit_checkpoint_is_never_updated');
end;

create trigger audit_checkpoint_is_never_replaced before insert on audit_checkpoint
when exists (select 1 from audit_checkpoint where checkpoint_id = new.checkpoint_id)
begin
    select raise(abort, 'audit_checkpoint_is_never_replaced');
end;

create trigger audit_checkpoint_is_never_deleted before delete on audit_checkpoint
begin
    select raise(abort, 'audit_checkpoint_is_never_deleted');
end;

-- The keys that checkpoints are signed with, from the record `seq` on. The record says so too.
create table audit_key (
    seq integer not null,
    -- NAME+HASH+KEY: the half that everybody may know.
    key text    not null,
    constraint audit_key_key primary key (seq)
) strict, without rowid;

-- The record of the newest reset: of a project, or, with no bytes, of all of them.
create table reset (
    project_id blob    not null,
    seq        integer not null,
    constraint reset_key primary key (project_id)
) strict, without rowid;

-- The schema that the log last told of. Of an older database it is made, with the version that it had, before the first
-- migration.
create table if not exists told_schema (
    only_row integer not null,
    version  integer not null,
    constraint told_schema_key primary key (only_row),
    constraint told_schema_has_one_row check (only_row = 1)
) strict;

-- The edge at `sealed_up_to`: what stands for the records that were deleted.
alter table audit_edge add column sealed_hashes blob not null default x''
    constraint audit_edge_sealed_hashes_are_whole check (length(sealed_hashes) % 32 = 0);

-- Both grow at their right ends: within a project by `seq`, and groups by creation.
create index audit_record_project_id on audit_record (project_id) where project_id is not null;
create index audit_record_group_id on audit_record (group_id) where group_id is not null;

-- A reset forgets the answers of its project: what they name is gone.
alter table idempotency_key add column project_id blob;
