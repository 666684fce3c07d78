//! What an event changes of the spec as it was asked for.

use crate::error::{Error, Violation};
use autolrs_core::spec::{JobSpec, labels_fit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change of the spec as it was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Edit {
    /// None.
    #[default]
    Keep,
    /// Another spec.
    Replace(Box<JobSpec>),
    /// An operator's update.
    Update(SpecUpdate),
}

/// What an operator changes of a spec.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecUpdate {
    /// The new budget.
    pub total_steps: Option<u64>,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Keys of labels to remove first.
    pub remove_labels: Vec<String>,
}

/// The spec as it was asked for, now and before operators changed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) spec: JobSpec,
    /// Budget and labels that the user asked for, once an operator has changed them.
    before: Option<Box<Before>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Before {
    total_steps: Option<u64>,
    labels: BTreeMap<String, String>,
}

impl Asked {
    /// As the user asks for it.
    pub(super) fn new(spec: JobSpec) -> Self {
        Self { spec, before: None }
    }

    /// Whether `asked` is what the user has asked for in a field that an operator has changed since.
    pub(super) fn was(&self, field: &str, asked: &JobSpec) -> bool {
        self.before.as_deref().is_some_and(|before| match field {
            "total_steps" => asked.total_steps == before.total_steps,
            "labels" => asked.labels == before.labels,
            _ => false,
        })
    }

    /// The spec after an edit.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are too many labels then, or one is too long.
    pub(super) fn edited(&self, job: &str, edit: Edit) -> Result<Self, Error> {
        let update = match edit {
            Edit::Keep => return Ok(self.clone()),
            Edit::Replace(spec) => return Ok(Self::new(*spec)),
            Edit::Update(update) => update,
        };
        let mut spec = self.spec.clone();
        spec.labels.retain(|key, _| !update.remove_labels.contains(key));
        spec.labels.extend(update.labels);
        if let Err(description) = labels_fit(&spec.labels) {
            let violations = vec![Violation { field: "labels".into(), description }];
            return Err(Error::Invalid { job: job.into(), violations });
        }
        spec.total_steps = update.total_steps.or(spec.total_steps);
        let Self { spec: JobSpec { total_steps, labels, .. }, .. } = self.clone();
        let before = || Box::new(Before { total_steps, labels });
        Ok(Self { spec, before: Some(self.before.clone().unwrap_or_else(before)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(total_steps: u64, labels: &[(&str, &str)]) -> JobSpec {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        JobSpec { total_steps: Some(total_steps), labels, ..JobSpec::default() }
    }

    fn relabel(set: &[(&str, &str)], remove: &[&str]) -> Edit {
        let labels = spec(0, set).labels;
        let remove_labels = remove.iter().map(|key| (*key).to_owned()).collect();
        Edit::Update(SpecUpdate { total_steps: None, labels, remove_labels })
    }

    #[test]
    fn labels_are_set_and_removed_and_others_stay() {
        let asked = Asked::new(spec(100, &[("a", "1"), ("b", "2"), ("c", "3")]));
        let edited = asked.edited("j", relabel(&[("b", "9"), ("d", "4")], &["a", "b", "nobody"])).unwrap();
        assert_eq!(edited.spec, spec(100, &[("b", "9"), ("c", "3"), ("d", "4")]));
    }

    #[test]
    fn what_the_user_asked_for_is_remembered() {
        let asked = Asked::new(spec(100, &[("a", "1")]));
        assert!(!asked.was("total_steps", &spec(100, &[])));
        let longer = Edit::Update(SpecUpdate { total_steps: Some(200), ..SpecUpdate::default() });
        let edited = asked.edited("j", longer).unwrap().edited("j", relabel(&[("a", "2")], &[])).unwrap();
        assert_eq!(edited.spec, spec(200, &[("a", "2")]));
        assert!(edited.was("total_steps", &spec(100, &[])) && edited.was("labels", &spec(1, &[("a", "1")])));
        assert!(!edited.was("total_steps", &spec(150, &[])) && !edited.was("seed", &spec(100, &[])));
        let replaced = edited.edited("j", Edit::Replace(Box::new(spec(50, &[])))).unwrap();
        assert_eq!(replaced, Asked::new(spec(50, &[])));
    }

    #[test]
    fn labels_are_limited() {
        let keys: Vec<String> = (0..64).map(|n| n.to_string()).collect();
        let full: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
        let asked = Asked::new(spec(100, &full));
        assert!(asked.edited("j", relabel(&[("x", "")], &["0"])).is_ok());
        for edit in [
            relabel(&[("x", "")], &[]),
            relabel(&[("", "")], &["0"]),
            relabel(&[("1", &"x".repeat(257))], &[]),
        ] {
            assert!(matches!(asked.edited("j", edit), Err(Error::Invalid { .. })));
        }
    }
}
