//! What the agent answers, as JSON and YAML: the schema of `-o json`, `-o yaml` and the admin socket.
//!
//! Owns the shape, which is a promise to scripts: fields are added, never renamed. Names are written as Kubernetes
//! writes them. Must not know how an answer is laid out for a person.

mod explain;
mod flows;
mod forwarding;
mod maps;
mod objects;
mod report;
mod status;

pub use explain::{
    AnswerView, BackendView, CandidateView, EndpointView, EndsView, ExplainView, FilterView, HeaderView,
    KernelView, ListenerRefView, MatchView, ObjectRefView, PathView, PlaceView, QuestionView, RoutesView,
    ServedView, SkipView, ValueView,
};
pub use flows::{
    FlowEventView, FlowFilterView, FlowView, FlowsPageView, FlowsQuestionView, FlowsView, FollowCursorView,
    FollowQuestionView, FollowView,
};
pub use forwarding::{ForwardingView, InterfaceView, WayView};
pub use maps::{BindingView, Lookups, MapView, MapsView};
pub use objects::{
    AppliedView, DifferenceView, DifferencesView, ObjectView, ObjectsView, OutcomeView, conditions_of,
};
pub use report::{Before, Part, Place, negative};
pub use status::{
    AgentView, ConditionView, ConfigurationView, DiagnosticView, ExternalNameView, GatewayView, LeftOutView,
    ListenerView, LoadErrorView, NamedView, ParentRefView, ParentView, RouteView, StatusView,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `sluice check -o json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// What makes the whole input be refused; if there is any, `status` is missing.
    pub errors: Vec<DiagnosticView>,
    /// What hinders nothing.
    pub warnings: Vec<DiagnosticView>,
    /// What the objects' status would be, as if applying succeeded on a host without addresses and listening
    /// processes of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusView>,
}

/// What `sluice version -o json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// The program's.
    pub version: String,
    /// That of the maps' contract between agent and BPF programs.
    pub contract: u64,
    /// The Gateway API's.
    pub gateway_api: String,
}
