//! Which HTTPRoutes have their status, as a watch of the benchmark's own sees it: nobody is polled.
//!
//! A route has its status if each of its parents has an entry of our controller with `Accepted` True, observed at the
//! route's generation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use gateway_tests::cluster::Api;
use serde_json::Value;

use super::bed;

const CONTROLLER: &str = "sluice-gateway.dev/controller";

/// All routes, followed for as long as the process runs.
pub(super) struct Statuses(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    routes: BTreeMap<String, Route>,
    /// Names of those without their status, and what stands there.
    open: BTreeMap<String, Value>,
    /// When the last one got its status.
    last: Option<Instant>,
    /// Why nothing is heard any longer.
    ended: Option<String>,
}

struct Route {
    generation: i64,
    /// When this generation was seen.
    seen: Instant,
    /// When it had its status.
    settled: Option<Instant>,
}

impl Statuses {
    /// Begins to watch.
    pub(super) fn follow(api: Api) -> Result<Self> {
        let mut watch = api.watch(&bed::routes_path())?;
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        let mine = Arc::clone(&shared);
        thread::spawn(move || {
            loop {
                let event = watch.event();
                let (state, heard) = &*mine;
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok((event, at)) => state.take(&event["object"], at),
                    Err(e) => state.ended = Some(e.to_string()),
                }
                heard.notify_all();
                if state.ended.is_some() {
                    return;
                }
            }
        });
        Ok(Self(shared))
    }

    /// Waits until so many routes are known.
    pub(super) fn know(&self, count: u32, limit: Duration) -> Result<()> {
        self.wait(limit, |state| (state.routes.len() >= count as usize).then_some(()))
    }

    /// Waits until so many routes are known and all have their status, and returns when the last one had.
    pub(super) fn settle(&self, count: u32, limit: Duration) -> Result<Instant> {
        self.wait(limit, |state| {
            if state.routes.len() >= count as usize && state.open.is_empty() { state.last } else { None }
        })
    }

    /// Waits until a route has its status at a generation. Returns when that generation was seen, and when it had it.
    pub(super) fn wait_for(
        &self,
        route: u32,
        generation: i64,
        limit: Duration,
    ) -> Result<(Instant, Instant)> {
        let name = bed::name(route);
        self.wait(limit, |state| {
            let route = state.routes.get(&name).filter(|route| route.generation >= generation)?;
            Some((route.seen, route.settled?))
        })
    }

    fn wait<T>(&self, limit: Duration, mut done: impl FnMut(&State) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        let (state, heard) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(what) = done(&state) {
                return Ok(what);
            }
            if let Some(why) = &state.ended {
                bail!("the HTTPRoutes' statuses cannot be followed: {why}");
            }
            let Some(left) = limit.checked_sub(start.elapsed()) else {
                let example = state.open.first_key_value();
                let example =
                    example.map(|(name, status)| format!(", such as {name}, whose status is {status}"));
                bail!(
                    "{} of {} HTTPRoutes have no Accepted=True of ours at their generation after {limit:?}{}",
                    state.open.len(),
                    state.routes.len(),
                    example.unwrap_or_default()
                );
            };
            (state, _) = heard.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    fn take(&mut self, object: &Value, at: Instant) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
        let new = || Route { generation, seen: at, settled: None };
        let route = self.routes.entry(name.to_owned()).or_insert_with(new);
        if route.generation != generation {
            *route = new();
        }
        if !is_settled(object) {
            route.settled = None;
            self.open.insert(name.to_owned(), object["status"].clone());
            return;
        }
        self.open.remove(name);
        if route.settled.is_none() {
            route.settled = Some(at);
            self.last = Some(at);
        }
    }
}

fn is_settled(object: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let generation = &object["metadata"]["generation"];
    let accepted = |condition: &Value| {
        condition["type"] == "Accepted"
            && condition["status"] == "True"
            && condition["observedGeneration"] == *generation
    };
    let entries = list(&object["status"]["parents"]);
    let ours: Vec<_> = entries.iter().filter(|entry| entry["controllerName"] == CONTROLLER).collect();
    ours.len() == list(&object["spec"]["parentRefs"]).len()
        && ours.iter().all(|entry| list(&entry["conditions"]).iter().any(accepted))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(generation: i64, controller: &str, status: &str, observed: i64) -> Value {
        let condition = json!({ "type": "Accepted", "status": status, "observedGeneration": observed });
        json!({
            "metadata": { "name": "a", "generation": generation },
            "spec": { "parentRefs": [{ "name": "gateway" }] },
            "status": { "parents": [{ "controllerName": controller, "conditions": [condition] }] },
        })
    }

    #[test]
    fn a_status_counts_if_it_is_ours_good_and_of_the_generation() {
        assert!(is_settled(&route(2, CONTROLLER, "True", 2)));
        for other in [
            route(2, CONTROLLER, "True", 1),
            route(2, CONTROLLER, "False", 2),
            route(2, "example.com/other", "True", 2),
            json!({ "metadata": { "generation": 1 }, "spec": { "parentRefs": [{}] } }),
        ] {
            assert!(!is_settled(&other), "{other}");
        }
    }

    #[test]
    fn a_route_that_changes_needs_its_status_anew() {
        let mut state = State::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        state.take(&route(1, CONTROLLER, "True", 1), at(1));
        state.take(&route(2, CONTROLLER, "True", 1), at(2));
        assert_eq!(state.open.len(), 1);
        state.take(&route(2, CONTROLLER, "True", 2), at(3));
        state.take(&route(2, CONTROLLER, "True", 2), at(4));
        let route = &state.routes["a"];
        assert_eq!((route.seen, route.settled, state.last), (at(2), Some(at(3)), Some(at(3))));
        assert!(state.open.is_empty());
    }
}
