//! Replaced by the real policy.
use super::{Context, Notes, OpenSearch, Policy, Segment};
use crate::{plan::{FromSlot, Plan}, spec::{ResolvedScan, ResolvedSpec}, stop_rules::Stop};
use serde::{Deserialize, Serialize};
/// State.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scan;
impl Scan {
    pub(crate) fn new(_: &ResolvedSpec, _: &ResolvedScan) -> Self { Self }
}
impl Policy for Scan {
    fn begin(&mut self, _: &Context<'_>, _: &mut Notes) -> Plan { todo!() }
    fn ended(&mut self, _: &Segment<'_>, _: &Context<'_>, _: &mut Notes) -> Plan { todo!() }
    fn stopped(&mut self, _: &Segment<'_>, _: Stop, _: &Context<'_>, _: &mut Notes) -> FromSlot { todo!() }
    fn search(&self, _: &ResolvedSpec) -> Option<OpenSearch> { None }
    fn close_search(&mut self, _: &Context<'_>, _: &mut Notes) -> FromSlot { todo!() }
}
