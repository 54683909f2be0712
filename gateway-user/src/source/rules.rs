//! CEL rules as Kubernetes evaluates them.
//!
//! Owns the environment: what of Kubernetes' function library the API's rules use, and how a tree looks to a rule.
//! Must not know which rules there are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use cel::extractors::This;
use cel::objects::{Key, Map};
use cel::{Context, Env, ExecutionError, Value as CelValue};
use regex::Regex;
use rustc_hash::FxHashMap;

use super::duration;
use super::node::{Node, Value};

/// A compiled rule.
#[derive(Debug)]
pub(super) enum Program {
    /// To be evaluated.
    Ready(Box<cel::Program>),
    /// It compares with the object's former state, which a file does not have.
    Transition,
    /// It does not compile: a test rules that out, and nothing passes it.
    Broken,
}

/// Field names that CEL reserves are escaped in rules (Kubernetes' documentation, "Validation rules").
const RESERVED: [&str; 20] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    let added = env.add_extension(cel::extensions::strings);
    added.expect("the extension clashes with nothing in the standard library");
    Arc::new(env)
});

thread_local! {
    static CONTEXT: Context<'static, 'static> = context();
}

fn context() -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::clone(&ENV));
    let added = context
        .add_function("isIP", |text: Arc<String>| text.parse::<IpAddr>().is_ok())
        .and_then(|()| context.add_function("fits", fits))
        .and_then(|()| {
            context.add_function("duration", |text: Arc<String>| {
                let length = duration::parse(&text)
                    .ok_or_else(|| ExecutionError::function_error("duration", "no duration"))?;
                i64::try_from(length.as_nanos()).map_err(|e| ExecutionError::function_error("duration", e))
            })
        });
    added.expect("none of these is in the standard library");
    context
}

/// `matches`, with each expression compiled once.
fn fits(This(text): This<Arc<String>>, pattern: Arc<String>) -> Result<bool, ExecutionError> {
    thread_local! {
        static COMPILED: RefCell<FxHashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        if let Some(regex) = compiled.get(&*pattern) {
            return Ok(regex.is_match(&text));
        }
        let regex = Regex::new(&pattern).map_err(|e| ExecutionError::function_error("matches", e))?;
        let fits = regex.is_match(&text);
        compiled.insert(Arc::unwrap_or_clone(pattern), regex);
        Ok(fits)
    })
}

/// Compiles a rule.
pub(super) fn compile(rule: &str) -> Program {
    if rule.contains("oldSelf") {
        return Program::Transition;
    }
    // The library's own `matches` compiles its expression at every call.
    match ENV.compile(&rule.replace(".matches(r", ".fits(r").replace(".matches('", ".fits('")) {
        Ok(program) => Program::Ready(Box::new(program)),
        Err(_) => Program::Broken,
    }
}

/// A value as rules see it.
pub(super) fn value(node: &Node) -> CelValue {
    match &node.value {
        Value::Null => CelValue::Null,
        Value::Bool(truth) => CelValue::Bool(*truth),
        Value::Int(number) => CelValue::Int(*number),
        Value::Float(number) => CelValue::Float(*number),
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::List(items) => CelValue::List(Arc::new(items.iter().map(value).collect())),
        Value::Map(entries) => {
            let map: HashMap<Key, CelValue> =
                entries.iter().map(|(key, node)| (escaped(&key.name), value(node))).collect();
            CelValue::Map(Map { map: Arc::new(map) })
        }
    }
}

fn escaped(name: &str) -> Key {
    if RESERVED.contains(&name) { format!("__{name}__").into() } else { name.into() }
}

/// Whether a rule holds for a value. An error within it counts as no, as in Kubernetes.
pub(super) fn holds(program: &Program, this: &CelValue) -> bool {
    match program {
        Program::Transition => true,
        Program::Broken => false,
        Program::Ready(program) => CONTEXT.with(|context| {
            let mut scope = context.new_inner_scope();
            scope.add_variable_from_value("self", this.clone());
            matches!(program.execute(&scope), Ok(CelValue::Bool(true)))
        }),
    }
}
