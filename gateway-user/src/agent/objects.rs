//! What is asked about the objects of the input: apply, delete, diff, get.
//!
//! Owns the shape of these calls, and that an answer waits for what it changed to be applied. Must not know how objects
//! are kept.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::info;

use super::board::now;
use super::{Agent, diagnostic_view, words};
use crate::admin::view::{
    AppliedView, DifferenceView, DifferencesView, ObjectView, ObjectsView, OutcomeView,
};
use crate::source::{
    Applied, EndpointFlag, Given, ObjectKind, ObjectRef, Outcome, Refused, StoreError, Wanted,
};

/// What `sluice apply` and `sluice diff` ask for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyCall {
    /// The documents.
    pub documents: Vec<Given>,
    /// Endpoints given by hand, as they are written.
    pub endpoints: Vec<String>,
    /// Whether nothing shall be kept.
    pub dry_run: bool,
}

/// What `sluice delete` asks for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteCall {
    /// Documents that name the objects.
    pub documents: Vec<Given>,
    /// Kind, namespace and name of others.
    pub objects: Vec<(String, Option<String>, String)>,
}

/// What `sluice get` asks for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetCall {
    /// Kinds; none: every one.
    pub kinds: Vec<String>,
    /// Namespace; none: all.
    pub namespace: Option<String>,
    /// Name; none: all.
    pub name: Option<String>,
}

/// An answer, or why there is none.
pub(super) type Reply<T> = oneshot::Sender<Result<T, String>>;

/// A call about objects, and where the answer goes.
#[derive(Debug)]
pub(super) enum ObjectsAsk {
    Apply(ApplyCall, Reply<AppliedView>),
    Diff(ApplyCall, Reply<DifferencesView>),
    Delete(DeleteCall, Reply<AppliedView>),
    Get(GetCall, Reply<ObjectsView>),
}

impl Agent<'_> {
    /// Does what is asked. Whoever asked may have gone: then the answer is dropped.
    pub(super) async fn answer(&mut self, ask: ObjectsAsk) {
        match ask {
            ObjectsAsk::Apply(call, reply) => drop(reply.send(self.apply(call).await)),
            ObjectsAsk::Diff(call, reply) => drop(reply.send(self.diff(&call))),
            ObjectsAsk::Delete(call, reply) => drop(reply.send(self.delete(call).await)),
            ObjectsAsk::Get(call, reply) => drop(reply.send(self.get(call))),
        }
    }

    async fn apply(&mut self, call: ApplyCall) -> Result<AppliedView, String> {
        let endpoints = endpoints(&call.endpoints)?;
        let applied = self.source.local()?.apply(&call.documents, &endpoints, &now(), call.dry_run);
        self.follow(applied).await
    }

    async fn delete(&mut self, call: DeleteCall) -> Result<AppliedView, String> {
        let applied = if call.documents.is_empty() {
            let object = |(kind, namespace, name): (String, Option<String>, String)| {
                Ok((kind.parse::<ObjectKind>().map_err(|error| words(&error))?, namespace, name))
            };
            let objects = call.objects.into_iter().map(object).collect::<Result<Vec<_>, String>>()?;
            self.source.local()?.delete(&objects)
        } else {
            self.source.local()?.delete_given(&call.documents)
        };
        self.follow(applied).await
    }

    /// Serves what a change of the store has made of the input, and tells what came of it.
    async fn follow(&mut self, applied: Result<Applied, Refused>) -> Result<AppliedView, String> {
        let applied = match applied {
            Ok(applied) => applied,
            Err(Refused::Input(errors)) => {
                let errors = errors.iter().map(diagnostic_view).collect();
                return Ok(AppliedView { errors, ..AppliedView::default() });
            }
            Err(Refused::Store(error)) => return Err(store_error(&error)),
        };
        if let Some(loaded) = applied.loaded {
            for (object, outcome) in &applied.objects {
                let ObjectRef { kind, namespace, name } = object;
                info!(kind, namespace, name, outcome = outcome.name(), "object of the store");
            }
            self.change(loaded).await;
        }
        let there = |kind: &str, namespace: &str, name: &str| {
            applied.objects.iter().any(|(object, outcome)| {
                *outcome != Outcome::Deleted
                    && (object.kind, object.namespace.as_str(), object.name.as_str())
                        == (kind, namespace, name)
            })
        };
        Ok(AppliedView {
            errors: Vec::new(),
            warnings: applied.warnings.iter().map(diagnostic_view).collect(),
            objects: applied.objects.iter().map(|(object, outcome)| named(object, outcome.name())).collect(),
            missing: applied.missing.iter().map(|object| named(object, "missing")).collect(),
            status: Some(self.board.objects.load().only(there)),
        })
    }

    fn diff(&mut self, call: &ApplyCall) -> Result<DifferencesView, String> {
        let endpoints = endpoints(&call.endpoints)?;
        match self.source.local()?.diff(&call.documents, &endpoints, &now()) {
            Ok((differences, warnings)) => Ok(DifferencesView {
                errors: Vec::new(),
                warnings: warnings.iter().map(diagnostic_view).collect(),
                differences: differences
                    .into_iter()
                    .map(|difference| DifferenceView {
                        object: named(&difference.object, difference.outcome.name()),
                        before: difference.before,
                        after: difference.after,
                    })
                    .collect(),
            }),
            Err(Refused::Input(errors)) => {
                let errors = errors.iter().map(diagnostic_view).collect();
                Ok(DifferencesView { errors, ..DifferencesView::default() })
            }
            Err(Refused::Store(error)) => Err(store_error(&error)),
        }
    }

    fn get(&mut self, call: GetCall) -> Result<ObjectsView, String> {
        let kinds = call.kinds.iter().map(|kind| kind.parse().map_err(|error| words(&error)));
        let kinds = kinds.collect::<Result<Vec<ObjectKind>, String>>()?;
        let wanted = Wanted { kinds, namespace: call.namespace, name: call.name };
        let (found, errors) = self.source.local()?.find(&wanted).map_err(|error| store_error(&error))?;
        let status = self.board.objects.load();
        let objects = found.into_iter().map(|found| {
            let ObjectRef { kind, namespace, name } = &found.object;
            let mut object = found.value;
            if let Some(status) = status.of(kind, namespace, name)
                && let Some(fields) = object.as_object_mut()
            {
                fields.insert("status".to_owned(), status);
            }
            ObjectView { source: found.file.unwrap_or_else(|| "store".to_owned()), object }
        });
        Ok(ObjectsView { objects: objects.collect(), errors: errors.iter().map(diagnostic_view).collect() })
    }
}

fn named(object: &ObjectRef, outcome: &str) -> OutcomeView {
    OutcomeView {
        kind: object.kind.to_owned(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        outcome: outcome.to_owned(),
    }
}

fn endpoints(written: &[String]) -> Result<Vec<EndpointFlag>, String> {
    written.iter().map(|flag| flag.parse().map_err(|error| words(&error))).collect()
}

/// Its cause is in its words.
fn store_error(error: &StoreError) -> String {
    tracing::error!("{error}");
    error.to_string()
}
