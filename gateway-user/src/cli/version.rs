//! `sluice version`.

use anyhow::Result;

use super::output::{self, Form};
use super::{Env, Exit};
use crate::admin::view::VersionView;

/// Show the versions of the program, of its map contract, and of the Gateway API.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

pub(super) fn version(env: &mut Env<'_>, args: &Args) -> Result<Exit> {
    let version = VersionView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        contract: gateway_ebpf::VERSION,
        gateway_api: "v1.6.1".to_owned(),
    };
    if !output::print_as(env, args.output, &version)? {
        let VersionView { version, contract, gateway_api } = version;
        writeln!(env.stdout, "sluice {version} (contract {contract}, Gateway API {gateway_api})")?;
    }
    Ok(Exit::Yes)
}
