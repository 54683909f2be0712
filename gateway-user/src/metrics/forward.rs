//! Metrics of what is forwarded in the kernel. They are there while forwarding is on.

use std::fmt::Error;

use super::families::{Out, relay_labels};
use super::{Forward, Forwarded, RelayLabels};

/// Directions as the label has them: the client's packets, the backend's.
const DIRECTIONS: [&str; 2] = ["received", "sent"];

impl Out<'_> {
    pub(super) fn forward(&mut self, forward: &Forward) -> Result<(), Error> {
        self.gauge(
            "forward_flows",
            "Flows that are forwarded in the kernel now, by state",
            forward.states.iter().map(|(state, count)| (vec![("state", *state)], *count as f64)),
        )?;
        self.counter(
            "forward_connections",
            "Connections, and UDP flows, that were forwarded in the kernel; one that went on to another endpoint since \
             the first did not answer counts for both",
            forward.flows.iter().map(|(labels, f)| (relay_labels(labels), f.connections)),
        )?;
        self.directed(forward, "forward_packets", "Packets that were forwarded in the kernel", |f| {
            f.packets
        })?;
        self.directed(
            forward,
            "forward_bytes",
            "Bytes of IP packets that were forwarded in the kernel",
            |f| f.bytes,
        )?;
        self.counter(
            "forward_unanswered",
            "Ended connections, and UDP flows, that the endpoint never answered",
            served(forward).map(|(labels, f)| (relay_labels(labels), f.unanswered)),
        )?;
        self.counter(
            "forward_withdrawn",
            "Flows that this agent ended since their listener or endpoint had left the configuration \
             (--reset-removed-after)",
            [(vec![], forward.withdrawn)],
        )?;
        for (name, help, reasons) in [
            (
                "forward_fallbacks",
                "Connections that could have been forwarded in the kernel and went to the relay, by reason",
                &forward.fallbacks,
            ),
            ("forward_drops", "Packets that forwarding dropped, by reason", &forward.drops),
            (
                "forward_notes",
                "What else happened while forwarding; no packet was lost by it",
                &forward.notes,
            ),
        ] {
            self.counter(
                name,
                help,
                reasons.iter().map(|(reason, count)| (vec![("reason", *reason)], *count)),
            )?;
        }
        self.gauge(
            "forward_snat_ports",
            "Source ports that there are for connections to one endpoint",
            [(vec![], forward.port_range as f64)],
        )?;
        let names: Vec<_> = forward.ports.iter().map(|(at, _, _)| at.to_string()).collect();
        self.gauge(
            "forward_snat_ports_used",
            "Source ports in use towards an endpoint",
            names.iter().zip(&forward.ports).map(|(at, (_, protocol, count))| {
                (vec![("backend", at.as_str()), ("protocol", *protocol)], *count as f64)
            }),
        )
    }

    fn directed(
        &mut self,
        forward: &Forward,
        name: &str,
        help: &str,
        value: fn(&Forwarded) -> [u64; 2],
    ) -> Result<(), Error> {
        self.counter(
            name,
            help,
            served(forward).flat_map(|(labels, f)| {
                DIRECTIONS.into_iter().zip(value(f)).map(move |(direction, count)| {
                    let mut labels = relay_labels(labels);
                    labels.push(("direction", direction));
                    (labels, count)
                })
            }),
        )
    }
}

/// What has not forwarded anything yet shows the zero of its connections, and is left out of the rest.
fn served(forward: &Forward) -> impl Iterator<Item = &(RelayLabels, Forwarded)> {
    forward.flows.iter().filter(|(_, f)| f.connections > 0 || f.packets != [0; 2])
}

#[cfg(test)]
mod tests {
    use crate::metrics::{BindingLabels, Facts, Forward, Forwarded, RelayLabels, render};

    #[test]
    fn forwarded_flows_are_shown_by_endpoint_and_direction() {
        let labels = |backend: &str| RelayLabels {
            binding: BindingLabels { binding: "*:80/tcp".into(), listener: "default/web/tcp".into() },
            route: "default/db".into(),
            service: "default/db:80".into(),
            backend: backend.to_owned(),
        };
        let one = Forwarded { connections: 3, unanswered: 1, packets: [9, 8], bytes: [900, 800] };
        let forward = Forward {
            states: vec![("opening", 1), ("established", 2)],
            flows: vec![(labels("10.0.0.1:80"), one), (labels("10.0.0.2:80"), Forwarded::default())],
            fallbacks: vec![("table_full", 4)],
            drops: vec![("too_big", 5)],
            notes: vec![("event_lost", 0)],
            ports: vec![("10.0.0.1:80".parse().unwrap(), "tcp", 2)],
            port_range: 20_000,
            withdrawn: 7,
        };
        let text = render(Facts { forward: Some(forward), ..Facts::default() });
        let of = "binding=\"*:80/tcp\",listener=\"default/web/tcp\",route=\"default/db\",service=\"default/db:80\",backend=\"10.0.0.1:80\"";
        for line in [
            "sluice_forward_flows{state=\"established\"} 2.0".to_owned(),
            format!("sluice_forward_connections_total{{{of}}} 3"),
            format!("sluice_forward_packets_total{{{of},direction=\"received\"}} 9"),
            format!("sluice_forward_packets_total{{{of},direction=\"sent\"}} 8"),
            format!("sluice_forward_bytes_total{{{of},direction=\"sent\"}} 800"),
            format!("sluice_forward_unanswered_total{{{of}}} 1"),
            "sluice_forward_fallbacks_total{reason=\"table_full\"} 4".to_owned(),
            "sluice_forward_drops_total{reason=\"too_big\"} 5".to_owned(),
            "sluice_forward_notes_total{reason=\"event_lost\"} 0".to_owned(),
            "sluice_forward_withdrawn_total 7".to_owned(),
            "sluice_forward_snat_ports 20000.0".to_owned(),
            "sluice_forward_snat_ports_used{backend=\"10.0.0.1:80\",protocol=\"tcp\"} 2.0".to_owned(),
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
        let idle: Vec<_> = text.lines().filter(|line| line.contains("10.0.0.2:80")).collect();
        assert!(matches!(*idle, [only] if only.ends_with(" 0")), "{idle:?}");
        assert!(!render(Facts::default()).contains("sluice_forward"));
    }
}
