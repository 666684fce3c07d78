//! What `/metrics` answers. Some gauges are measured when it is asked for.

use metrics_exporter_prometheus::PrometheusHandle;
use metrics_process::Collector;
use std::sync::Arc;

/// Renders the metrics. Cheap to clone.
#[derive(Clone)]
pub struct Exposition {
    recorded: PrometheusHandle,
    process: Collector,
    measure: Arc<dyn Fn() + Send + Sync>,
}

impl Exposition {
    /// Of what was recorded and of this process; `measure` is called before each answer, to set its gauges.
    pub fn new(recorded: PrometheusHandle, measure: impl Fn() + Send + Sync + 'static) -> Self {
        Self { recorded, process: Collector::default(), measure: Arc::new(measure) }
    }

    /// The answer, in Prometheus' text format.
    pub fn render(&self) -> String {
        self.process.collect();
        (self.measure)();
        self.recorded.render()
    }

    /// Lets the histograms forget single values.
    pub fn run_upkeep(&self) {
        self.recorded.run_upkeep();
    }
}
