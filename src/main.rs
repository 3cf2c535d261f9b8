//! The program `dynvis`.

fn main() -> std::process::ExitCode {
    dynvis::run_with(dynvis::kinds())
}
