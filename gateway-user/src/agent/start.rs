//! What an agent's start begins: its source, forwarding, and the reading of flows.
//!
//! Owns what becomes of an agent whose kernel cannot forward. The order of the start is `agent`'s.

use std::sync::Arc;

use tracing::{info, warn};

use super::access_log::AccessLog;
use super::board::Board;
use super::flows::{EventThread, Flows};
use super::forward::Forwarder;
use super::memory::Memory;
use super::{Config, Error, store_folder, words};
use crate::dataplane::{self, Dataplane, Forwarding, Networks};
use crate::source::{Cluster, Input, Source};

/// The source of the configuration; a cluster's objects are known then.
pub(super) async fn source(config: &Config) -> Result<Source, Error> {
    let Some(cluster) = &config.cluster else {
        let store = store_folder(&config.state_dir);
        let input = Input::open(config.files.clone(), config.endpoints.clone(), &store)?;
        return Ok(Source::Local(Box::new(input)));
    };
    let cluster = Cluster::connect(cluster).await?;
    info!(api_server = cluster.url(), "the cluster's objects are read");
    cluster.complete().await;
    Ok(Source::Cluster(cluster))
}

/// Begins to read the flows, if there is forwarding.
pub(super) fn flows(
    dataplane: &mut Dataplane,
    memory: &Memory,
    board: &Board,
    access_log: Option<AccessLog>,
) -> Result<Option<EventThread>, Error> {
    let Some((reader, events)) = dataplane.flows()? else { return Ok(None) };
    let flows = Arc::new(Flows::new(reader, memory.flows.clone())?);
    let start = |source| Error::Start { what: "the thread that reads which flows are over", source };
    let thread = flows.read_ends(events, access_log).map_err(start)?;
    board.forwarding(flows);
    Ok(Some(thread))
}

/// Turns forwarding on, or off if it was on before. The inner error says why the relay serves everything.
pub(super) fn forward(
    config: &Config,
    dataplane: &mut Dataplane,
) -> Result<Result<(Networks, Forwarder), String>, Error> {
    let Some(forwarding) = &config.forward else {
        let removed = dataplane.stop_forwarding()?;
        if !removed.is_empty() {
            warn!(removed = removed.len(), "--forward off: hooks of before are removed, and their flows end");
        }
        return Ok(Err("--forward off".to_owned()));
    };
    let open = |dataplane: &mut Dataplane| -> Result<_, dataplane::Error> {
        let networks = Networks::open()?;
        let tables = dataplane.forward(forwarding)?;
        let made = Forwarding { flows: tables.flows, opening: tables.opening, ..forwarding.clone() };
        info!(
            flows = made.flows,
            opening_flows = made.opening,
            memory_mib = made.memory() >> 20,
            "TCPRoutes and UDPRoutes are forwarded in the kernel where a way leads to the endpoint"
        );
        let forwarder = Forwarder::new(&networks, config.interfaces.clone(), tables);
        Ok((networks, forwarder))
    };
    Ok(match open(dataplane) {
        Ok(open) => Ok(open),
        Err(error) => {
            let why = words(&error);
            warn!(why, "nothing is forwarded in the kernel: the relay serves every TCPRoute");
            Err(why)
        }
    })
}
