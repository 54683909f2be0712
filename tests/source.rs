//! Files as an agent meets them: the API's schemas field by field, watching, and the old dialects.
