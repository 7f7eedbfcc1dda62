//! The server's binary; everything is in the library beside it.

fn main() -> std::process::ExitCode {
    ambidex_server::main()
}
