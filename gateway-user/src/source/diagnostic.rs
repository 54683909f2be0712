//! What is said about input: one problem at one place.
//!
//! Owns the form. Must not know which problems there are.

use std::fmt;

/// A problem (or a warning) at a place of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// File as it was named, `<stdin>`, or `--endpoint`.
    pub file: String,
    /// Line, from 1; 0 if there is none.
    pub line: u32,
    /// Column in characters, from 1; 0 if there is none.
    pub column: u32,
    /// Kind, namespace and name, `HTTPRoute default/my-route`; empty if it is not known.
    pub object: String,
    /// Path of the field, `spec.rules[0].matches[0].path.value`; empty if it is about the whole object.
    pub field: String,
    /// The value as written, shortened; empty if there is none.
    pub value: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; empty if the message says it. A remedy of several lines is shown as a block.
    pub remedy: String,
}

impl fmt::Display for Diagnostic {
    /// `FILE:LINE:COLUMN: OBJECT: FIELD: MESSAGE (got VALUE); REMEDY`, without the parts that are empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.file.is_empty() {
            f.write_str(": ")?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)?;
        if !self.value.is_empty() {
            write!(f, " (got {})", self.value)?;
        }
        if self.remedy.contains('\n') {
            for line in self.remedy.trim_end().lines() {
                write!(f, "\n    {line}")?;
            }
        } else if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}
