//! Whether the API server's past is still the one that was known.
//!
//! Owns how that is told: an object's revision only grows, unless etcd was restored from a backup. Then revisions are given
//! out again that were seen already, and an API server lets a watch from one that it has not reached yet wait without a
//! word, so that what happens until then is never heard of. Must not know whose revision it is: of one object alone.

/// What was seen of an object's revisions.
#[derive(Debug, Default)]
pub(super) struct Revisions(u64);

impl Revisions {
    /// Takes one in, as it stands in `metadata.resourceVersion`. False: it is older than one that was seen before.
    pub(super) fn see(&mut self, revision: Option<&str>) -> bool {
        let Some(revision) = revision.and_then(|text| text.parse().ok()) else { return true };
        std::mem::replace(&mut self.0, revision) <= revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_that_goes_back_is_noticed_once() {
        let mut seen = Revisions::default();
        let steps = [
            (Some("7"), true),
            (Some("7"), true),
            (Some("100"), true),
            (None, true),
            (Some("odd"), true),
            (Some("99"), false),
            (Some("99"), true),
            (Some("101"), true),
        ];
        for (revision, want) in steps {
            assert_eq!(seen.see(revision), want, "{revision:?}");
        }
    }
}
