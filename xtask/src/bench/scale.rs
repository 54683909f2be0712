//! `bench scale`: 5,000 HTTPRoutes over 50 Gateways: compile, match, memory, and how long a changed route takes
//! until a worker answers by it.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use gateway_tests::{
    agent::{Agent, PATIENCE},
    lab::{BACKEND4, GATEWAY4},
};
use serde_json::json;

use super::{Rounds, Site, peer, stats::median, table};
use crate::sh;

/// How much of it.
#[derive(Args)]
pub(crate) struct Scale {
    /// Changes of one route.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=1000))]
    changes: u16,
}

const GATEWAYS: u16 = 50;
const ROUTES: u16 = 100;
const FIRST_PORT: u16 = 10_000;
const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn run(scale: &Scale) -> Result<()> {
    sh::run(sh::cargo().args(["bench", "--quiet", "--package", "gateway-user", "--bench", "scale"]))?;
    let site = Site::new(&Rounds { rounds: 1, seconds: 1, workers: 2 })?;
    let folder = site.run.path().join("gateways");
    fs::create_dir(&folder)?;
    for gateway in 0..GATEWAYS {
        write(&folder, gateway, "/first")?;
    }
    let start = Instant::now();
    let argument = folder.to_str().context("the folder's name is not text")?;
    let agent = Agent::start(&site.lab.gateway, &backend(), &["--workers", "2", "-f", argument]);
    let ready = start.elapsed();
    let pid = u32::try_from(agent.pid())?;
    let fresh = peer::resident(pid)?;
    let at = SocketAddr::new(GATEWAY4, FIRST_PORT + 7);
    let mut times = Vec::new();
    for change in 0..scale.changes {
        let path = format!("/change-{change}");
        let taken = site.lab.client.enter(|| -> Result<Duration> {
            let mut connection = Connection::new(at)?;
            ensure!(connection.get(&path)? == 404, "{path} is served before it is written");
            let start = Instant::now();
            write(&folder, 7, &path)?;
            while connection.get(&path)? != 200 {
                ensure!(
                    start.elapsed() < PATIENCE,
                    "{path} is not served after {PATIENCE:?}:\n{}",
                    agent.log()
                );
            }
            Ok(start.elapsed())
        })?;
        times.push(taken.as_secs_f64() * 1e3);
        // A change every now and then is what happens; one on the heels of another would meet the debouncing.
        thread::sleep(Duration::from_millis(300));
    }
    let changed = peer::resident(pid)?;
    let mut sorted = times.clone();
    sorted.sort_by(f64::total_cmp);
    let m = median(&times);
    let p95 = sorted[(sorted.len() * 95 / 100).min(sorted.len() - 1)];
    println!("\nscale: {} HTTPRoutes over {GATEWAYS} Gateways", u32::from(GATEWAYS) * u32::from(ROUTES));
    println!("  from start to ready            {:>9.0} ms", ready.as_secs_f64() * 1e3);
    println!(
        "  a changed route until it serves{:>9.1} ms  [{:.1}, {:.1}], 95th percentile {p95:.1} ms; aim 30 ms",
        m.value, m.low, m.high
    );
    println!(
        "  resident memory                {:>9.1} MiB fresh, {:.1} MiB after the changes; aim 60 MB",
        fresh as f64 / MIB,
        changed as f64 / MIB
    );
    table::write(
        "scale",
        &json!({ "ready_ms": ready.as_secs_f64() * 1e3, "change_ms": times, "resident_fresh": fresh, "resident_changed": changed }),
    )
}

/// One Gateway with its routes, put in place by a rename; its route 42 serves `path` too.
fn write(folder: &Path, gateway: u16, path: &str) -> Result<()> {
    let mut text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gateway-{gateway}}}\nspec:\n  gatewayClassName: sluice\n  listeners:\n  - {{name: http, port: {}, protocol: HTTP}}\n",
        FIRST_PORT + gateway
    );
    for route in 0..ROUTES {
        write!(
            text,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: route-{gateway}-{route}}}\nspec:\n  parentRefs: [{{name: gateway-{gateway}}}]\n  rules:\n  - matches:\n    - path: {{type: PathPrefix, value: /route-{route}}}\n    - path: {{type: Exact, value: /exact-{route}}}\n      method: GET\n    backendRefs: [{{name: web, port: 8080}}]\n"
        )?;
        if route == 42 {
            write!(
                text,
                "  - matches: [{{path: {{type: Exact, value: {path}}}}}]\n    backendRefs: [{{name: web, port: 8080}}]\n"
            )?;
        }
    }
    let new = folder.join(format!(".gateway-{gateway}.new"));
    fs::write(&new, text)?;
    Ok(fs::rename(new, folder.join(format!("gateway-{gateway}.yaml")))?)
}

fn backend() -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  ports: [{{port: 8080}}]\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web\n  labels: {{kubernetes.io/service-name: web}}\naddressType: IPv4\nendpoints: [{{addresses: [{BACKEND4}]}}]\nports: [{{port: 8080}}]\n"
    )
}

/// A keep-alive connection that asks for one path after another.
struct Connection(TcpStream);

impl Connection {
    fn new(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// The status of an answer; its body, which has a content-length here, is read off.
    fn get(&mut self, path: &str) -> Result<u16> {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = self.0.read(&mut buffer)?;
            if n == 0 {
                bail!("the connection ended while {path} was asked for");
            }
            answer.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head
                .lines()
                .find_map(|l| {
                    l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
                })
                .context("an answer without content-length")?;
            if body.len() >= length {
                return Ok(head.split(' ').nth(1).context("no status")?.parse()?);
            }
        }
    }
}
