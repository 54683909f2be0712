//! The metric families.
//!
//! Owns names, help texts and labels. A family without samples is left out.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{BindingLabels, Facts, Flows, HttpLabels, RelayLabels, Relayed, text};

/// Classes of an HTTP status, as the label `code` has them.
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Facts in Prometheus' text format, version 0.0.4.
#[must_use]
pub fn render(facts: Facts) -> String {
    let mut registry = Registry::with_prefix("sluice");
    registry.register_collector(Box::new(Families(facts)));
    text::encode(&registry)
}

#[derive(Debug)]
struct Families(Facts);

impl Collector for Families {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Out(encoder);
        let facts = &self.0;
        out.kernel(facts)?;
        facts.forward.as_ref().map_or(Ok(()), |forward| out.forward(forward))?;
        out.tcp(facts)?;
        out.udp(facts)?;
        out.http(facts)?;
        out.workers(facts)?;
        out.agent(facts)
    }
}

pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

fn binding_labels(labels: &BindingLabels) -> Labels<'_> {
    vec![("binding", &*labels.binding), ("listener", &*labels.listener)]
}

pub(super) fn relay_labels(labels: &RelayLabels) -> Labels<'_> {
    let mut all = binding_labels(&labels.binding);
    all.extend([
        ("route", &*labels.route),
        ("service", &*labels.service),
        ("backend", labels.backend.as_str()),
    ]);
    all
}

/// A count of each series.
fn relayed(
    all: &[(RelayLabels, Relayed)],
    count: fn(&Relayed) -> u64,
) -> impl Iterator<Item = (Labels<'_>, u64)> {
    all.iter().map(move |(labels, t)| (relay_labels(labels), count(t)))
}

fn http_labels(labels: &HttpLabels) -> Labels<'_> {
    vec![
        ("listener", &*labels.listener),
        ("route", &*labels.route),
        ("rule", &*labels.rule),
        ("backend", &*labels.backend),
    ]
}

fn yes(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// What writes families, one after the other.
pub(super) struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn kernel(&mut self, facts: &Facts) -> Result<(), Error> {
        self.gauge(
            "kernel_read_success",
            "Whether the kernel's maps could be read for this scrape",
            [(vec![], yes(facts.kernel.is_some()))],
        )?;
        let Some(kernel) = &facts.kernel else { return Ok(()) };
        self.counter(
            "lookups",
            "Lookups that found a binding, by what became of them: at least one for each connection",
            kernel.lookups.iter().map(|(binding, verdict, count)| {
                (vec![("binding", &**binding), ("verdict", *verdict)], *count)
            }),
        )?;
        self.counter(
            "lookup_misses",
            "Lookups that found no binding and went on to the host's own sockets",
            [(vec![], kernel.misses)],
        )?;
        let maps = |value: fn(&(&'static str, u32, u32)) -> u32| {
            kernel.maps.iter().map(move |map| (vec![("map", map.0)], f64::from(value(map))))
        };
        self.gauge("map_capacity", "Entries that a BPF map can hold", maps(|m| m.1))?;
        self.gauge("map_entries", "Entries of a BPF map that are in use", maps(|m| m.2))
    }

    fn tcp(&mut self, facts: &Facts) -> Result<(), Error> {
        self.counter(
            "connections",
            "Connections accepted, by binding",
            facts.accepted.iter().map(|(labels, count)| (binding_labels(labels), *count)),
        )?;
        self.counter(
            "tcp_connections",
            "Relayed TCP connections; those with an empty backend were refused",
            relayed(&facts.tcp, |t| t.begun),
        )?;
        self.counter(
            "tcp_received_bytes",
            "Bytes that clients of relayed TCP connections sent",
            relayed(&facts.tcp, |t| t.received),
        )?;
        self.counter(
            "tcp_sent_bytes",
            "Bytes that were sent to clients of relayed TCP connections",
            relayed(&facts.tcp, |t| t.sent),
        )
    }

    fn udp(&mut self, facts: &Facts) -> Result<(), Error> {
        for (name, help, value) in [
            (
                "udp_flows",
                "Relayed UDP flows; with an empty backend it is datagrams that a worker refused",
                (|t| t.begun) as fn(&Relayed) -> u64,
            ),
            ("udp_received_bytes", "Bytes that clients of relayed UDP flows sent", |t| t.received),
            ("udp_sent_bytes", "Bytes that were sent to clients of relayed UDP flows", |t| t.sent),
            ("udp_received_datagrams", "Datagrams that clients of relayed UDP flows sent", |t| {
                t.datagrams_received
            }),
            ("udp_sent_datagrams", "Datagrams that were sent to clients of relayed UDP flows", |t| {
                t.datagrams_sent
            }),
        ] {
            self.counter(name, help, relayed(&facts.udp, value))?;
        }
        let Flows { open, ended, dropped, errors } = &facts.flows;
        let names: Vec<String> = (0..open.len()).map(|worker| worker.to_string()).collect();
        self.gauge(
            "udp_flows_open",
            "UDP flows open now, by worker",
            names.iter().zip(open).map(|(name, n)| (vec![("worker", name.as_str())], *n as f64)),
        )?;
        for (name, help, label, counts) in [
            ("udp_flows_closed", "Ended UDP flows by reason", "reason", ended),
            ("udp_dropped_datagrams", "Datagrams that workers dropped, by reason", "reason", dropped),
            ("udp_icmp_errors", "ICMP errors that came back to a flow, by who sent them", "from", errors),
        ] {
            self.counter(name, help, counts.iter().map(|(value, count)| (vec![(label, *value)], *count)))?;
        }
        Ok(())
    }

    fn http(&mut self, facts: &Facts) -> Result<(), Error> {
        self.counter(
            "http_requests",
            "HTTP requests by class of the answer's status; 1xx also if the client went away before an answer",
            facts.http.iter().flat_map(|(labels, r)| {
                CODES.iter().zip(r.status).map(|(code, count)| {
                    let mut labels = http_labels(labels);
                    labels.push(("code", *code));
                    (labels, count)
                })
            }),
        )?;
        // What has not served a request yet shows its zero above, and is left out of the rest: a histogram without
        // a value says nothing and is fifteen series.
        let served = || facts.http.iter().filter(|(_, r)| r.status.iter().any(|n| *n > 0));
        self.counter(
            "http_request_body_bytes",
            "Bytes of request bodies",
            served().map(|(labels, r)| (http_labels(labels), r.received)),
        )?;
        self.counter(
            "http_response_body_bytes",
            "Bytes of answers' bodies",
            served().map(|(labels, r)| (http_labels(labels), r.sent)),
        )?;
        if served().next().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(
            "http_request_duration_seconds",
            "Time from the end of a request's header to the end of the answer",
            None,
            MetricType::Histogram,
        )?;
        for (labels, requests) in served() {
            let bounds = facts.latency_bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(requests.latency.iter().copied()).collect();
            let count = buckets.iter().map(|bucket| bucket.1).sum();
            family.encode_family(&http_labels(labels))?.encode_histogram::<NoLabelSet>(
                requests.latency_sum,
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn workers(&mut self, facts: &Facts) -> Result<(), Error> {
        let names: Vec<String> = (0..facts.open.len()).map(|worker| worker.to_string()).collect();
        self.gauge(
            "connections_open",
            "Connections open now, by worker",
            names.iter().zip(&facts.open).map(|(name, n)| (vec![("worker", name.as_str())], *n as f64)),
        )?;
        self.counter(
            "connections_closed",
            "Ended connections by reason",
            facts.closed.iter().map(|(reason, count)| (vec![("reason", *reason)], *count)),
        )?;
        let words = |resumed: bool| if resumed { "true" } else { "false" };
        self.counter(
            "tls_handshakes",
            "TLS handshakes with clients, by version and whether a session was resumed",
            facts.tls.done.iter().map(|(version, resumed, count)| {
                (vec![("version", *version), ("resumed", words(*resumed))], *count)
            }),
        )?;
        self.counter(
            "tls_handshake_failures",
            "TLS handshakes with clients that failed, by reason",
            facts.tls.failed.iter().map(|(reason, count)| (vec![("reason", *reason)], *count)),
        )?;
        for (name, help, count) in [
            ("upstream_connects", "Connections that endpoints took", facts.upstream_connects),
            ("upstream_reuses", "Requests sent on a connection that was used before", facts.upstream_reuses),
            (
                "upstream_connect_failures",
                "Connection attempts that endpoints refused or did not answer",
                facts.upstream_failures,
            ),
            (
                "upstream_retries",
                "Requests sent again since a reused connection turned out to be stale",
                facts.upstream_retries,
            ),
            ("accept_errors", "Times that accepting a connection failed", facts.accept_errors),
            (
                "access_log_dropped_lines",
                "Lines of the access log that its writer could not keep up with",
                facts.access_log_dropped,
            ),
        ] {
            self.counter(name, help, [(vec![], count)])?;
        }
        Ok(())
    }

    fn agent(&mut self, facts: &Facts) -> Result<(), Error> {
        if let Some(cluster) = &facts.cluster {
            self.gauge(
                "kube_leader",
                "Whether this agent is the one that writes statuses",
                [(vec![], yes(cluster.leads))],
            )?;
            self.counter(
                "kube_status_writes",
                "Statuses that were to be written, by what came of it",
                cluster.writes.iter().map(|(result, count)| (vec![("result", *result)], *count)),
            )?;
        }
        let configuration = &facts.configuration;
        self.counter(
            "config_errors",
            "Times that the configuration was refused (input) or could not be applied (apply)",
            [("input", configuration.refused), ("apply", configuration.failed)]
                .map(|(reason, count)| (vec![("reason", reason)], count)),
        )?;
        for (name, help, value) in [
            (
                "config_generation",
                "The input that serves: the first good one since the agent's start is 1",
                configuration.generation as f64,
            ),
            (
                "config_current",
                "Whether the newest input serves: 0 while it is refused or cannot be applied",
                yes(configuration.current),
            ),
            (
                "config_last_success_timestamp_seconds",
                "When a configuration was applied last",
                configuration.last_success,
            ),
            (
                "config_last_error_timestamp_seconds",
                "When a configuration was refused or could not be applied last; 0: never",
                configuration.last_error,
            ),
            ("ready", "Whether programs are attached and a configuration is applied", yes(facts.ready)),
            ("start_time_seconds", "When the agent started", facts.started),
        ] {
            self.gauge(name, help, [(vec![], value)])?;
        }
        let contract = gateway_ebpf::VERSION.to_string();
        let labels = vec![("version", env!("CARGO_PKG_VERSION")), ("contract", contract.as_str())];
        self.gauge(
            "build_info",
            "Version of the agent, and of its contract with the kernel's maps",
            [(labels, 1.0)],
        )
    }

    pub(super) fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> Result<(), Error> {
        let samples = samples.into_iter().map(|(labels, count)| (labels, ConstCounter::new(count)));
        self.family(name, help, MetricType::Counter, samples)
    }

    pub(super) fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> Result<(), Error> {
        let samples = samples.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, samples)
    }

    fn family<'l>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl Iterator<Item = (Labels<'l>, impl EncodeMetric)>,
    ) -> Result<(), Error> {
        let mut samples = samples.peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, sample) in samples {
            if labels.is_empty() {
                // Such a family has one sample.
                return sample.encode(family);
            }
            sample.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Configuration, Kernel, Requests};

    fn facts() -> Facts {
        let binding = BindingLabels { binding: "*:80/tcp".into(), listener: "default/web/http".into() };
        let tcp = RelayLabels {
            binding: binding.clone(),
            route: "default/tcp".into(),
            service: "default/db:5432".into(),
            backend: "10.0.0.1:5432".to_owned(),
        };
        let http = |route: &str| HttpLabels {
            listener: "default/web/http".into(),
            route: route.into(),
            rule: "0".into(),
            backend: "default/app:80".into(),
        };
        let requests = Requests {
            status: [0, 3, 0, 1, 0],
            latency: vec![2, 1, 1],
            latency_sum: 0.75,
            received: 10,
            sent: 20,
        };
        Facts {
            kernel: Some(Kernel {
                lookups: vec![("*:80/tcp".into(), "steered", 7)],
                misses: 2,
                maps: vec![("BINDINGS", 16384, 1)],
            }),
            accepted: vec![(binding, 5)],
            tcp: vec![(tcp, Relayed { begun: 4, received: 100, sent: 200, ..Relayed::default() })],
            http: vec![(http("default/app"), requests), (http("default/\"idle\\"), Requests::default())],
            latency_bounds: vec![0.001, 0.25],
            open: vec![1, 0],
            closed: vec![("done", 3)],
            configuration: Configuration { generation: 2, refused: 1, current: true, ..Default::default() },
            ready: true,
            started: 1.5,
            ..Facts::default()
        }
    }

    fn family(text: &str, name: &str) -> String {
        text.lines().filter(|line| line.contains(name)).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn counters_carry_total_in_family_and_sample() {
        let text = render(facts());
        assert_eq!(
            family(&text, "sluice_lookups"),
            "# HELP sluice_lookups_total Lookups that found a binding, by what became of them: at least one for \
             each connection\n# TYPE sluice_lookups_total counter\n\
             sluice_lookups_total{binding=\"*:80/tcp\",verdict=\"steered\"} 7\n"
        );
        assert_eq!(
            family(&text, "sluice_tcp_connections"),
            "# HELP sluice_tcp_connections_total Relayed TCP connections; those with an empty backend were \
             refused\n# TYPE sluice_tcp_connections_total counter\n\
             sluice_tcp_connections_total{binding=\"*:80/tcp\",listener=\"default/web/http\",\
             route=\"default/tcp\",service=\"default/db:5432\",backend=\"10.0.0.1:5432\"} 4\n"
        );
    }

    #[test]
    fn what_served_nothing_shows_zero_requests_and_no_histogram() {
        let text = render(facts());
        let requests = family(&text, "sluice_http_requests_total{");
        assert_eq!(requests.lines().count(), 10);
        assert!(
            requests
                .contains("route=\"default/app\",rule=\"0\",backend=\"default/app:80\",code=\"2xx\"} 3\n")
        );
        assert!(requests.contains(
            "route=\"default/\\\"idle\\\\\",rule=\"0\",backend=\"default/app:80\",code=\"2xx\"} 0\n"
        ));
        let labels =
            "listener=\"default/web/http\",route=\"default/app\",rule=\"0\",backend=\"default/app:80\"";
        let name = "sluice_http_request_duration_seconds";
        let histogram: Vec<String> =
            family(&text, name).lines().skip(2).map(|l| l.replace(labels, "L").replace(name, "H")).collect();
        assert_eq!(
            histogram,
            [
                "H_sum{L} 0.75",
                "H_count{L} 4",
                "H_bucket{le=\"0.001\",L} 2",
                "H_bucket{le=\"0.25\",L} 3",
                "H_bucket{le=\"+Inf\",L} 4",
            ]
        );
    }

    #[test]
    fn a_kernel_that_cannot_be_read_is_told() {
        let text = render(Facts { kernel: None, ..facts() });
        assert!(text.contains("sluice_kernel_read_success 0.0\n"), "{text}");
        assert_eq!(family(&text, "sluice_lookups"), "");
    }
}
