//! The program `sluice`: parse, run, print what went wrong once.

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use gateway_user::cli::{self, Env, Exit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let colors = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
    let width = terminal_size::terminal_size_of(&stdout).map(|(width, _)| width.0);
    let mut env =
        Env { args: env::args_os().collect(), stdout: &mut stdout, stderr: &mut stderr, colors, width };
    let exit = cli::run(&mut env).unwrap_or_else(|error| {
        if cli::is_broken_pipe(&error) {
            return Exit::Yes;
        }
        // Where nobody reads the message, the exit code still tells.
        drop(writeln!(env.stderr, "sluice: {error:#}"));
        Exit::No
    });
    exit.into()
}
