//! Files and directories of objects, read as one input.
//!
//! Owns reading, and what must be remembered between two loads: what was read only once, the parts that have not
//! changed, generations. Must not know what an object means.

mod state;
mod watch;

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::assemble::{Generations, Part, assemble};
use super::{Diagnostic, EndpointFlag, Loaded, object, yaml};
use state::State;
pub use watch::{Error, Watch};

/// A longer file is refused.
const LONGEST: u64 = 64 << 20;

/// The extensions of files that are read out of a directory.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Files and directories (`*.yaml`, `*.yml`, `*.json` directly in them, but for hidden ones), `-` for standard input.
/// Standard input, pipes and the like are read once and remembered.
#[derive(Debug)]
pub struct FileSource {
    paths: Vec<PathBuf>,
    endpoints: Vec<EndpointFlag>,
    /// What can be read only once.
    once: HashMap<PathBuf, Arc<str>>,
    /// What parts of files meant, by hash and length: an unchanged part is not read again.
    parts: HashMap<(u64, usize), Arc<object::Read>>,
    generations: Generations,
    /// How the files looked when they were last read.
    state: State,
}

impl FileSource {
    /// A source of these paths, together one input. Reads nothing yet.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, endpoints: Vec<EndpointFlag>) -> Self {
        let (once, parts) = (HashMap::new(), HashMap::new());
        Self { paths, endpoints, once, parts, generations: Generations::default(), state: State::default() }
    }

    /// Reads everything. Blocks: the time goes with what has changed, not with all there is.
    ///
    /// # Errors
    /// Everything that is wrong: then nothing of it may be used.
    pub fn load(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        self.state = State::of(&self.paths);
        let (mut parts, mut used) = (Vec::new(), HashMap::with_capacity(self.parts.len()));
        for (path, files) in self.paths.clone().into_iter().zip(files(&self.paths)) {
            let files = match files {
                Ok(files) => files,
                Err(error) => {
                    parts.push(unreadable(&path, &error));
                    continue;
                }
            };
            for path in files {
                match self.text(&path) {
                    Ok(text) => self.read(&shown(&path), &text, &mut parts, &mut used),
                    Err(error) => parts.push(unreadable(&path, &error)),
                }
            }
        }
        self.parts = used;
        assemble(&parts, &self.endpoints, &mut self.generations)
    }

    /// Starts to watch the paths for changes since the last [`load`](Self::load). Must be called within a tokio
    /// runtime with time.
    ///
    /// # Errors
    /// If the kernel's watch cannot be set up.
    pub fn watch(&self) -> Result<Watch, Error> {
        Watch::start(self.paths.clone(), self.state.clone())
    }

    /// The text of a file.
    fn text(&mut self, path: &Path) -> io::Result<Arc<str>> {
        if let Some(text) = self.once.get(path) {
            return Ok(Arc::clone(text));
        }
        let (text, standing) = if path.as_os_str() == "-" {
            (bounded(io::stdin().lock())?, false)
        } else {
            let file = File::open(path)?;
            let standing = file.metadata()?.is_file();
            (bounded(file)?, standing)
        };
        let text: Arc<str> = text.into();
        if !standing {
            self.once.insert(path.to_owned(), Arc::clone(&text));
        }
        Ok(text)
    }

    /// Reads a file's parts, or takes what is known of them.
    fn read(
        &self,
        file: &str,
        text: &str,
        parts: &mut Vec<Part>,
        used: &mut HashMap<(u64, usize), Arc<object::Read>>,
    ) {
        let file: Arc<str> = file.into();
        for (lines_before, text) in yaml::split(text) {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let key = (hasher.finish(), text.len());
            let read = used.get(&key).or_else(|| self.parts.get(&key)).cloned();
            let read = read.unwrap_or_else(|| Arc::new(object::read(text)));
            used.insert(key, Arc::clone(&read));
            parts.push(Part { file: Arc::clone(&file), lines_before, read });
        }
    }
}

fn bounded(source: impl io::Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    source.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("longer than {} MiB; split it up", LONGEST >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let message = format!("no UTF-8 from byte {} on", error.utf8_error().valid_up_to());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn shown(path: &Path) -> String {
    if path.as_os_str() == "-" { "<stdin>".to_owned() } else { path.display().to_string() }
}

/// A file that cannot be read, as a part that is an error.
fn unreadable(path: &Path, error: &io::Error) -> Part {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "create it, or leave it out".to_owned(),
        _ => String::new(),
    };
    let diagnostic =
        Diagnostic { message: format!("cannot be read: {error}"), remedy, ..Diagnostic::default() };
    let read = object::Read { errors: vec![diagnostic], ..object::Read::default() };
    Part { file: shown(path).into(), lines_before: 0, read: Arc::new(read) }
}

/// The files that each path stands for. A file that several paths name belongs to the first.
fn files(paths: &[PathBuf]) -> Vec<io::Result<Vec<PathBuf>>> {
    let mut seen = std::collections::HashSet::new();
    let mut new = |path: &PathBuf| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
    let files = |path: &PathBuf| {
        if !path.is_dir() {
            return Ok(vec![path.clone()]);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(path)? {
            let file = entry?.path();
            let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let fits =
                file.extension().is_some_and(|extension| EXTENSIONS.iter().any(|fits| extension == *fits));
            if fits && !hidden && !file.is_dir() {
                files.push(file);
            }
        }
        files.sort();
        Ok(files)
    };
    paths.iter().map(|path| files(path).map(|files| files.into_iter().filter(&mut new).collect())).collect()
}
