//! The one source that an agent has: files and the store, or a cluster.
//!
//! Owns that it is one of the two. Must not know what the objects are used for.

use std::sync::Arc;

use super::kube::ClusterWatch;
use super::{Cluster, ClusterFigures, Diagnostic, Error, Input, Loaded, Watch};
use crate::core::host::Role;
use crate::core::model::Model;
use crate::core::status::Report;

/// A source.
#[derive(Debug)]
pub enum Source {
    /// Files, and the store of what was applied.
    Local(Box<Input>),
    /// A cluster.
    Cluster(Cluster),
}

impl Source {
    /// Everything that is to be served.
    ///
    /// # Errors
    /// Everything that is wrong: then nothing of it may be used. Of a cluster an object that is wrong is left out instead.
    pub fn load(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        match self {
            Self::Local(input) => input.load(),
            Self::Cluster(cluster) => cluster.load(),
        }
    }

    /// Tells of changes from now on.
    ///
    /// # Errors
    /// If the kernel's watch of files cannot be set up.
    pub fn watch(&self) -> Result<Changes, Error> {
        Ok(match self {
            Self::Local(input) => Changes::Local(input.watch()?),
            Self::Cluster(cluster) => Changes::Cluster(cluster.watch()),
        })
    }

    /// What shall be said of the objects: in a cluster it is written to them.
    pub fn publish(&self, report: &Arc<Report>, model: &Arc<Model>) {
        match self {
            Self::Local(_) => {}
            Self::Cluster(cluster) => cluster.publish(Arc::clone(report), Arc::clone(model)),
        }
    }

    /// What is counted of a cluster, if this is one.
    #[must_use]
    pub fn figures(&self) -> Option<ClusterFigures> {
        match self {
            Self::Local(_) => None,
            Self::Cluster(cluster) => Some(cluster.figures()),
        }
    }

    /// Gives up what other agents may have now.
    pub async fn leave(&mut self) {
        match self {
            Self::Local(_) => {}
            Self::Cluster(cluster) => cluster.leave().await,
        }
    }

    /// What this agent is among the others.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Local(_) => Role::Alone,
            Self::Cluster(cluster) => cluster.role(),
        }
    }

    /// Files and the store.
    ///
    /// # Errors
    /// If this is a cluster: what to do instead.
    pub fn local(&mut self) -> Result<&mut Input, String> {
        match self {
            Self::Local(input) => Ok(input),
            Self::Cluster(cluster) => {
                Err(format!("this agent serves the objects of the cluster at {}; use kubectl", cluster.url()))
            }
        }
    }
}

/// Waits for changes of a source.
#[derive(Debug)]
pub enum Changes {
    /// Of files.
    Local(Watch),
    /// Of a cluster's objects.
    Cluster(ClusterWatch),
}

impl Changes {
    /// Waits for the next change.
    pub async fn changed(&mut self) {
        match self {
            Self::Local(watch) => watch.changed().await,
            Self::Cluster(watch) => watch.changed().await,
        }
    }
}
