//! `sluice version`.

use anyhow::Result;
use serde::Serialize;

use super::output::{self, Form};
use super::{Env, Exit};

/// Show the versions of the program, of its map contract, and of the Gateway API.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    contract: u64,
    gateway_api: &'static str,
}

pub(super) fn version(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        contract: gateway_ebpf::VERSION,
        gateway_api: "v1.6.1",
    };
    if !output::print_as(env, args.output, &version)? {
        let Version { version, contract, gateway_api } = version;
        writeln!(env.stdout, "sluice {version} (contract {contract}, Gateway API {gateway_api})")?;
    }
    Ok(Exit::Yes)
}
