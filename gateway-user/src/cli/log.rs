//! The agent's log: how much of it, in which form.
//!
//! Owns the forms. What is logged, and at which level, is said where it happens.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use clap::ValueEnum;
use nix::sys::stat::fstat;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How much is logged.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Journal if systemd's journal reads it, text if not
    Auto,
    /// For a person
    Text,
    /// One JSON object a line
    Json,
    /// For systemd's journal: a priority, <3> to <7>, and no time, which the journal keeps
    Journal,
}

/// Libraries whose errors the source tells once and with what comes of them, and that tell each of them at every try.
const TOLD_ELSEWHERE: [&str; 2] = ["kube_client", "kube_runtime"];

/// Sets the log up. What the BPF programs log has a level of its own, and is always let through.
pub(super) fn start(level: Level, format: Format) {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let told_elsewhere = if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF };
    let filter = Targets::new()
        .with_default(level)
        .with_target("sluice_bpf", LevelFilter::TRACE)
        .with_targets(TOLD_ELSEWHERE.map(|target| (target, told_elsewhere)));
    let colors = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let layer = layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match chosen(format, std::env::var("JOURNAL_STREAM").ok().as_deref(), io::stderr()) {
        Format::Json => registry.with(layer.json()).init(),
        Format::Journal => registry.with(layer.with_ansi(false).event_format(Journal)).init(),
        Format::Auto | Format::Text => registry.with(layer.with_ansi(colors).with_target(false)).init(),
    }
}

/// What `auto` comes to: systemd names in `JOURNAL_STREAM`, as `DEVICE:INODE`, the stream that the journal reads. A
/// process that inherits the variable and not the stream writes to a person.
fn chosen(format: Format, stream: Option<&str>, stderr: impl AsFd) -> Format {
    if format != Format::Auto {
        return format;
    }
    let here = fstat(stderr).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    if here.is_ok_and(|here| stream == Some(&*here)) { Format::Journal } else { Format::Text }
}

/// A line with a priority as of `sd-daemon(3)`.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            tracing::Level::DEBUG | tracing::Level::TRACE => 7,
        };
        // The journal takes each line for an entry, and a line without a priority for the usual one.
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        for line in text.lines() {
            writeln!(writer, "<{priority}>{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_line_for_the_journal_has_its_priority_and_no_time() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = layer().with_ansi(false).event_format(Journal).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::error!(code = 7, "one\ntwo");
            tracing::warn!("three");
            tracing::info!("four");
            tracing::debug!("five");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "<3>one\n<3>two code=7\n<4>three\n<6>four\n<7>five\n");
    }

    #[test]
    fn auto_is_the_journal_only_on_the_journals_own_stream() {
        let file = tempfile::tempfile().unwrap();
        let stat = fstat(&file).unwrap();
        let own = format!("{}:{}", stat.st_dev, stat.st_ino);
        for (format, stream, want) in [
            (Format::Auto, Some(&*own), Format::Journal),
            (Format::Auto, Some("1:2"), Format::Text),
            (Format::Auto, None, Format::Text),
            (Format::Json, Some(&*own), Format::Json),
            (Format::Text, Some(&*own), Format::Text),
        ] {
            assert_eq!(chosen(format, stream, &file), want, "{format:?} {stream:?}");
        }
    }
}
