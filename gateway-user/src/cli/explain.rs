//! `sluice explain`: where a request or a connection goes, and why.
//!
//! Owns how the question is asked and how the answer is laid out. The answer is the agent's, or, with -f, that of the
//! same functions on a file.

pub(super) mod print;
mod url;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use self::url::Url;
use super::output::{self, Form};
use super::{Env, Exit, SocketArgs};
use crate::admin::client;
use crate::admin::view::{EndsView, HeaderView, QuestionView};
use crate::agent;
use crate::core::compile::compile;
use crate::core::explain::Scene;
use crate::core::host::Host;
use crate::core::model::Model;
use crate::core::snapshot::{Ids, Snapshot};
use crate::source::{EndpointFlag, FileSource};

/// Explain where a request or a connection goes, and why.
///
/// Tells listener, route, rule, match, backends, and why each other candidate lost. Asks the running agent, which
/// answers by what serves right now; with -f, explains an input without an agent. Exits with 1 if nothing would
/// serve, and says why and what to do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Http(HttpArgs),
    /// Explain a TCP connection: `sluice explain tcp 192.0.2.1:5432 --from 198.51.100.7:40000`.
    Tcp(L4Args),
    /// Explain a UDP flow: `sluice explain udp 192.0.2.1:53 --from 198.51.100.7:40000`.
    Udp(L4Args),
}

/// Explain a request: `sluice explain http GET http://example.com:8080/path?query -H 'Name: value'`.
#[derive(Debug, clap::Args)]
struct HttpArgs {
    /// Method
    method: String,
    /// URL. Its path is taken as it is; its host is connected to if it is an address, and is the Host field and, for
    /// https, the name in the ClientHello
    #[arg(value_name = "http[s]://HOST[:PORT]/PATH", value_parser = url::parse)]
    url: Url,
    /// A field of the request's header, `Name: value`. Can be repeated; `Host` replaces that of the URL
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<HeaderView>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// The address that the client connects to, where the URL has a name
    #[arg(long, value_name = "ADDRESS")]
    to: Option<IpAddr>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct L4Args {
    /// Where the client connects or sends to
    #[arg(value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// The client's address and port: they decide on the backend
    #[arg(long, value_name = "ADDRESS:PORT")]
    from: SocketAddr,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    place: Whose,
    /// Show every candidate that lost, not only those that came closest (JSON and YAML always have all)
    #[arg(long)]
    all: bool,
    /// The form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Form,
}

/// Whose configuration is looked at: the agent's, or that of files.
#[derive(Debug, clap::Args)]
pub(super) struct Whose {
    #[command(flatten)]
    socket: SocketArgs,
    /// Look at this input instead of asking the agent: file, directory, or `-` for standard input. Can be repeated
    #[arg(short, long = "file", value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// An endpoint for a Service of that input. Can be repeated
    #[arg(long = "endpoint", value_name = "NAMESPACE/SERVICE[:PORT]=ADDRESS:PORT", requires = "files")]
    endpoints: Vec<EndpointFlag>,
}

/// An input without an agent.
pub(super) struct Offline {
    pub(super) model: Model,
    pub(super) snapshot: Snapshot,
}

impl Whose {
    /// The socket of the agent to ask, if no input is given.
    pub(super) fn agent(&self) -> Option<&PathBuf> {
        self.files.is_empty().then_some(&self.socket.admin_socket)
    }

    /// The input; `None`: it has errors, which are printed.
    pub(super) fn load(&self, env: &mut Env<'_>) -> Result<Option<Offline>> {
        match FileSource::new(self.files.clone(), self.endpoints.clone()).load() {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    writeln!(env.stderr, "warning: {warning}")?;
                }
                let snapshot = compile(&loaded.model, &Host::default(), &Ids::default(), 1);
                Ok(Some(Offline { model: loaded.model, snapshot }))
            }
            Err(errors) => {
                for error in &errors {
                    writeln!(env.stderr, "error: {error}")?;
                }
                Ok(None)
            }
        }
    }
}

pub(super) fn explain(env: &mut Env<'_>, args: Args) -> Result<Exit> {
    let (question, common) = match args.what {
        What::Http(args) => http(args),
        What::Tcp(L4Args { to, from, common }) => (QuestionView::Tcp(EndsView { to, from }), common),
        What::Udp(L4Args { to, from, common }) => (QuestionView::Udp(EndsView { to, from }), common),
    };
    let view = if let Some(socket) = common.place.agent() {
        client::send(socket, "/explain", &question)?
    } else {
        let Some(Offline { model, snapshot }) = common.place.load(env)? else { return Ok(Exit::No) };
        let scene = Scene { snapshot: &snapshot, model: &model, report: &snapshot.report };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(agent::explain(&question, &scene, None))
    };
    if !output::print_as(env, common.output, &view)? {
        print::view(env, &question, &view, common.all)?;
    }
    Ok(if view.served { Exit::Yes } else { Exit::No })
}

fn http(args: HttpArgs) -> (QuestionView, Common) {
    let HttpArgs { method, url, mut headers, from, to, common } = args;
    if !headers.iter().any(|header| header.name.eq_ignore_ascii_case("host")) {
        headers.insert(0, HeaderView { name: "host".to_owned(), value: url.authority });
    }
    let to = to.or(url.address);
    let tls = url.tls.then_some(url.name);
    (QuestionView::Http { method, target: url.target, headers, to, port: url.port, from, tls }, common)
}

/// Parses a field `Name: value`.
fn header(text: &str) -> Result<HeaderView, String> {
    let (name, value) = text.split_once(':').ok_or("write it as `Name: value`")?;
    if name.trim().is_empty() || text.contains(['\r', '\n', '\0']) {
        return Err("write it as `Name: value`, on one line".to_owned());
    }
    Ok(HeaderView { name: name.trim().to_owned(), value: value.trim().to_owned() })
}
