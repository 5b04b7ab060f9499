//! Every trial of the embedded catalogue, as a test.

fn main() -> std::process::ExitCode {
    airtight::suite::Suite::standard().main()
}
