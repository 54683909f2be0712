//! The command line: nouns read, verbs change.
//!
//! Owns flags, what is printed, and exit codes. Must not decide anything about the configuration.

mod apply;
mod check;
mod completions;
mod delete;
mod diff;
mod explain;
mod flows;
mod get;
mod log;
mod man;
mod maps;
mod output;
mod routes;
mod run;
mod set;
mod status;
mod uninstall;
mod version;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::source::EndpointFlag;

/// What a command gets from the process that it runs in.
pub struct Env<'a> {
    /// Arguments, the program's name first.
    pub args: Vec<OsString>,
    /// For what was asked for.
    pub stdout: &'a mut dyn Write,
    /// For everything else.
    pub stderr: &'a mut dyn Write,
    /// Whether `stdout` shows colours.
    pub colors: bool,
    /// The columns of the terminal that shows `stdout`, if one does.
    pub width: Option<u16>,
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked, or the answer is yes: 0.
    Yes,
    /// It could not, or the answer is no: 1.
    No,
    /// It was not asked in a way that it understands: 2.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A Gateway API gateway whose data plane is eBPF.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Apply(apply::Args),
    Get(get::Args),
    Diff(diff::Args),
    Delete(delete::Args),
    Status(status::Args),
    Explain(explain::Args),
    Routes(routes::Args),
    Flows(flows::Args),
    Maps(maps::Args),
    Set(set::Args),
    Uninstall(uninstall::Args),
    Version(version::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The input.
#[derive(Clone, Debug, clap::Args)]
struct InputArgs {
    /// File, or directory of *.yaml, *.yml and *.json files, with Kubernetes objects; `-` is standard input.
    /// Can be repeated: all of it is one input
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,
    /// An endpoint for a Service, for a quick try. Makes the Service if it is not in the input. Can be repeated
    #[arg(long = "endpoint", value_name = "NAMESPACE/SERVICE[:PORT]=ADDRESS:PORT")]
    endpoints: Vec<EndpointFlag>,
}

/// Where the agent's admin socket is.
#[derive(Clone, Debug, clap::Args)]
struct SocketArgs {
    /// Unix socket of the agent, for root alone
    #[arg(long, value_name = "PATH", default_value = "/run/sluice/admin.sock", env = "SLUICE_ADMIN_SOCKET")]
    admin_socket: PathBuf,
}

/// What the agent is asked for is shown in this form.
#[derive(Clone, Debug, clap::Args)]
struct AskArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: output::Form,
}

/// What an agent leaves on disk and in the BPF filesystem.
#[derive(Clone, Debug, clap::Args)]
struct PlaceArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Directory for what outlives a restart: the ids of bindings, services and backends
    #[arg(long, value_name = "DIR", default_value = "/var/lib/sluice", env = "SLUICE_STATE_DIR")]
    state_dir: PathBuf,
    /// Directory for pinned programs and maps, on a BPF filesystem; no other agent's
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/sluice", env = "SLUICE_PIN_DIR")]
    pin_dir: PathBuf,
}

/// The definition of all commands: what help, completions and man pages are made of.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments name.
///
/// # Errors
/// Whatever keeps the command from doing it; to be shown once, and to end with [`Exit::No`].
pub fn run(env: &mut Env<'_>) -> Result<Exit> {
    let cli = match Cli::try_parse_from(&env.args) {
        Ok(cli) => cli,
        Err(error) => return usage(env, &error),
    };
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(env, args),
        Command::Apply(args) => apply::apply(env, &args),
        Command::Get(args) => get::get(env, &args),
        Command::Diff(args) => diff::diff(env, &args),
        Command::Delete(args) => delete::delete(env, &args),
        Command::Status(args) => status::status(env, &args),
        Command::Explain(args) => explain::explain(env, args),
        Command::Routes(args) => routes::routes(env, &args),
        Command::Flows(args) => flows::flows(env, &args),
        Command::Maps(args) => maps::maps(env, &args),
        Command::Set(args) => set::set(&args),
        Command::Uninstall(args) => uninstall::uninstall(env, &args),
        Command::Version(args) => version::version(env, &args),
        Command::Completions(args) => completions::completions(env, &args),
        Command::Man(args) => man::man(env, &args),
    }
}

/// Whether it went wrong only because nobody reads on: `sluice status | head -1`.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Help goes to standard output, a usage error to standard error.
fn usage(env: &mut Env<'_>, error: &clap::Error) -> Result<Exit> {
    let text = error.render();
    let text = if env.colors { text.ansi().to_string() } else { text.to_string() };
    if error.use_stderr() {
        env.stderr.write_all(text.as_bytes())?;
        Ok(Exit::Usage)
    } else {
        env.stdout.write_all(text.as_bytes())?;
        Ok(Exit::Yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sluice(args: &[&str]) -> (Result<Exit>, String, String) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let args = ["sluice"].iter().chain(args).map(OsString::from).collect();
        let exit =
            run(&mut Env { args, stdout: &mut stdout, stderr: &mut stderr, colors: false, width: None });
        (exit, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_help() {
        for command in command().get_subcommands() {
            let (exit, stdout, stderr) = sluice(&[command.get_name(), "--help"]);
            assert_eq!((exit.unwrap(), stderr.as_str()), (Exit::Yes, ""), "{}", command.get_name());
            assert!(stdout.contains("Usage: sluice"), "{stdout}");
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty(), "{} says nothing about itself", command.get_name());
            for flag in command.get_arguments() {
                assert!(flag.get_help().is_some(), "{} {}: no help", command.get_name(), flag.get_id());
            }
        }
    }

    #[test]
    fn usage_errors_end_with_2_and_go_to_stderr() {
        for args in [
            &[][..],
            &["fly"],
            &["check"],
            &["apply"],
            &["diff"],
            &["delete"],
            &["delete", "httproute"],
            &["delete", "nonsense", "a"],
            &["get", "nonsense"],
            &["get", "gtw", "-n", "a", "-A"],
            &["run", "-f", "x", "--workers", "0"],
            &["run", "-f", "x", "--endpoint", "nonsense"],
            &["run", "-f", "x", "--metrics", "9464"],
            &["run", "-f", "x", "--drain-timeout", "soon"],
            &["set"],
            &["set", "--bpf-log-level", "loud"],
            &["status", "-o", "xml"],
            &["explain"],
            &["explain", "http", "GET"],
            &["explain", "http", "GET", "a.example/"],
            &["explain", "http", "GET", "http://a/", "-H", "nonsense"],
            &["explain", "tcp", "10.0.0.1:80"],
            &["explain", "tcp", "10.0.0.1", "--from", "10.0.0.2:4000"],
            &["routes", "--endpoint", "a/b=10.0.0.1:80"],
            &["flows", "--follow", "--state", "opening"],
        ] {
            let (exit, stdout, stderr) = sluice(args);
            assert_eq!((exit.unwrap(), stdout.as_str()), (Exit::Usage, ""), "{args:?}");
            assert!(stderr.contains("Usage: ") || stderr.contains("--help"), "{args:?}: {stderr}");
        }
    }

    #[test]
    fn no_agent_is_an_error_that_names_the_socket() {
        for args in [
            &["status"][..],
            &["maps"],
            &["flows"],
            &["flows", "--follow"],
            &["set", "--bpf-log-level", "off"],
            &["get"],
            &["apply", "--endpoint", "default/web=127.0.0.1:80"],
            &["delete", "gtw", "web"],
            &["routes"],
            &["explain", "http", "GET", "http://a/"],
            &["explain", "tcp", "10.0.0.1:80", "--from", "10.0.0.2:4000"],
        ] {
            let args = [args, &["--admin-socket", "/nonexistent/admin.sock"]].concat();
            let error = sluice(&args).0.unwrap_err().to_string();
            assert!(error.contains("no agent answers on /nonexistent/admin.sock"), "{args:?}: {error}");
        }
    }

    #[test]
    fn a_broken_pipe_is_found_in_the_chain() {
        let pipe = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_broken_pipe(&pipe));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
