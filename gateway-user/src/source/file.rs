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
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assemble::{Generations, Origin, Part, assemble};
use super::dialect::attach;
use super::dialect::upgrade::{self, Page};
use super::kind::Kind;
use super::{Diagnostic, EndpointFlag, Loaded, Upgraded, object, yaml};
use crate::core::model::ObjectName;
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
        let parts = self.parts(&mut |_, _| ());
        self.assemble(&parts)
    }

    /// Puts parts, of the files and others, together with the endpoints of the command line.
    pub(super) fn assemble(&mut self, parts: &[Part]) -> Result<Loaded, Vec<Diagnostic>> {
        assemble(parts, &self.endpoints, &mut self.generations)
    }

    /// The generation of an object of a file.
    pub(super) fn generation(&self, key: &(Kind, ObjectName)) -> Option<i64> {
        self.generations.of(key)
    }

    /// Reads all files. `each` sees every part of a file, and its text.
    pub(super) fn parts(&mut self, each: &mut dyn FnMut(&Part, &str)) -> Vec<Part> {
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
                    Ok((text, open)) => self.read(&shown(&path), &text, open, &mut parts, &mut used, each),
                    Err(error) => parts.push(unreadable(&path, &error)),
                }
            }
        }
        self.parts = used;
        parts
    }

    /// Everything in today's form, and what it means then. Documents that are in it already stay as they are.
    ///
    /// # Errors
    /// Everything that is wrong, and what today's form demands and the input does not tell.
    pub fn upgrade(&mut self) -> Result<Upgraded, Vec<Diagnostic>> {
        let before = self.load()?;
        let mut texts = Vec::new();
        for path in files(&self.paths).into_iter().flatten().flatten() {
            let (text, _) =
                self.text(&path).map_err(|error| unreadable(&path, &error).read.errors.clone())?;
            texts.push((shown(&path), text));
        }
        upgraded(before, &texts, &self.endpoints)
    }

    /// Starts to watch the paths for changes since the last [`load`](Self::load). Must be called within a tokio
    /// runtime with time.
    ///
    /// # Errors
    /// If the kernel's watch cannot be set up.
    pub fn watch(&self) -> Result<Watch, Error> {
        Watch::start(self.paths.clone(), self.state.clone())
    }

    /// The text of a file, and whether everybody may read it.
    fn text(&mut self, path: &Path) -> io::Result<(Arc<str>, bool)> {
        if let Some(text) = self.once.get(path) {
            return Ok((Arc::clone(text), false));
        }
        let Text { text, standing, open } = Text::of(path)?;
        let text: Arc<str> = text.into();
        if !standing {
            self.once.insert(path.to_owned(), Arc::clone(&text));
        }
        Ok((text, open))
    }

    /// Reads a file's parts, or takes what is known of them.
    fn read(
        &self,
        file: &str,
        text: &str,
        open: bool,
        parts: &mut Vec<Part>,
        used: &mut HashMap<(u64, usize), Arc<object::Read>>,
        each: &mut dyn FnMut(&Part, &str),
    ) {
        let file: Arc<str> = file.into();
        for (lines_before, text) in yaml::split(text) {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let key = (hasher.finish(), text.len());
            let read = used.get(&key).or_else(|| self.parts.get(&key)).cloned();
            let read = read.unwrap_or_else(|| Arc::new(object::read(text)));
            used.insert(key, Arc::clone(&read));
            let warning = open.then(|| secret_in_the_open(&file, &read.objects)).flatten();
            let part = Part { file: Arc::clone(&file), lines_before, read, origin: Origin::File };
            each(&part, text);
            parts.push(part);
            parts.extend(warning);
        }
    }
}

/// Texts in today's form, one after the other.
pub(super) fn upgraded(
    before: Loaded,
    texts: &[(String, Arc<str>)],
    endpoints: &[EndpointFlag],
) -> Result<Upgraded, Vec<Diagnostic>> {
    let part = |file: &str, (lines_before, text): (u32, &str)| Part {
        file: file.into(),
        lines_before,
        read: Arc::new(object::read(text)),
        origin: Origin::File,
    };
    let mut pages = Vec::new();
    for (file, text) in texts {
        let parts = yaml::split(text).into_iter();
        pages.push(parts.map(|(lines, text)| (text, part(file, (lines, text)))).collect::<Vec<_>>());
    }
    let parts = pages.iter().flatten();
    let world = attach::World::new(parts.flat_map(|(_, part)| &part.read.objects));
    let (mut whole, mut lacks) = (String::new(), Vec::new());
    for (i, page) in pages.iter().enumerate() {
        let mut text = String::new();
        for (written, part) in page {
            let page = Page { text: written, objects: &part.read.objects };
            let before = lacks.len();
            text.push_str(&upgrade::upgrade(&page, &world, &mut lacks));
            lacks[before..].iter_mut().for_each(|lack| *lack = part.located(lack));
        }
        if i > 0 && !text.starts_with("---") {
            whole.push_str("---\n");
        }
        whole.push_str(&text);
        if !whole.is_empty() && !whole.ends_with('\n') {
            whole.push('\n');
        }
    }
    if !lacks.is_empty() {
        return Err(lacks);
    }
    let parts: Vec<_> = yaml::split(&whole).into_iter().map(|page| part("today's form", page)).collect();
    let after = assemble(&parts, endpoints, &mut Generations::default())?;
    Ok(Upgraded { text: whole, before, after })
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
    Part { file: shown(path).into(), lines_before: 0, read: Arc::new(read), origin: Origin::File }
}

/// A warning, as a part, if there is a Secret among the objects of a file that everybody may read.
pub(super) fn secret_in_the_open(file: &Arc<str>, objects: &[object::Object]) -> Option<Part> {
    let secret = objects.iter().find(|object| object.kind == Kind::Secret)?;
    let warning = Diagnostic {
        object: format!("Secret {}", secret.meta.name),
        message: "every user may read this file".to_owned(),
        remedy: format!("`chmod o-r {file}`"),
        ..Diagnostic::default()
    };
    let read = object::Read { warnings: vec![warning], ..object::Read::default() };
    Some(Part { file: Arc::clone(file), lines_before: 0, read: Arc::new(read), origin: Origin::File })
}

/// What a file holds.
struct Text {
    text: String,
    /// Whether it can be read again.
    standing: bool,
    /// Whether everybody may read it.
    open: bool,
}

impl Text {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self { text: bounded(io::stdin().lock())?, standing: false, open: false });
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let standing = metadata.is_file();
        let open = standing && metadata.permissions().mode() & 0o004 != 0;
        Ok(Self { text: bounded(file)?, standing, open })
    }
}

/// A file as it is sent to an agent: not looked into yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// Its name, for messages.
    pub file: String,
    /// What it holds.
    pub text: String,
    /// Whether everybody may read it.
    pub open: bool,
}

/// Reads files and directories, as [`FileSource`] does, without looking into them.
///
/// # Errors
/// What cannot be read.
pub fn given(paths: &[PathBuf]) -> Result<Vec<Given>, Vec<Diagnostic>> {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    let mut fail = |path: &Path, error: &io::Error| {
        errors.extend(unreadable(path, error).diagnostics());
    };
    for (path, files) in paths.iter().zip(files(paths)) {
        match files {
            Err(error) => fail(path, &error),
            Ok(files) => {
                for path in files {
                    match Text::of(&path) {
                        Ok(Text { text, open, .. }) => all.push(Given { file: shown(&path), text, open }),
                        Err(error) => fail(&path, &error),
                    }
                }
            }
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(errors) }
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
