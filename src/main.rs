//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    ecs_groupd::cli::main()
}
