//! The metrics of the real agent, scraped by a real Prometheus.
