//! Arguments in, exit code out.

/// What is measured to matter: a record is made on the writer's thread and freed on SQLite's, which costs glibc's
/// allocator a third of all creates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ecs_groupd::cli::main()
}
