//! The program. All that it does is in [`herd_mio::cli`].

fn main() -> std::process::ExitCode {
    herd_mio::cli::main()
}
