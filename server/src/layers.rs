//! What stands between a request and its handler.

use crate::{
    error::Error,
    limit::Limit,
    rpc::status::{explained, status},
};
use axum::{error_handling::HandleErrorLayer, response::Response};
use http::Request;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body};
use tower::{
    BoxError, Service, ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::error::Overloaded,
    timeout::error::Elapsed, util::BoxCloneSyncService,
};

/// A service with its layers on.
pub(crate) type Layered = BoxCloneSyncService<Request<Body>, Response, Infallible>;

/// Limits that several services share.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    places: Arc<Semaphore>,
    request_timeout: Duration,
}

impl Layers {
    pub(crate) fn new(places: Arc<Semaphore>, request_timeout: Duration) -> Self {
        Self { places, request_timeout }
    }

    /// The layers from the outside in. Probes and reflection have none of them: they must be answered under load.
    pub(crate) fn around<S>(&self, service: S) -> Layered
    where
        S: Service<Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let layers = ServiceBuilder::new()
            // Gives the refusals of the transport a reason.
            .map_response(explain)
            // Turns what the layers below say into gRPC.
            .layer(HandleErrorLayer::new(refuse))
            // Sheds at once what the limit below would make wait: a caller knows better when to come back.
            .load_shed()
            // Bounds memory: requests under way, over all connections.
            .layer(GlobalConcurrencyLimitLayer::with_semaphore(self.places.clone()))
            // Frees the place of a caller that sends its body forever.
            .timeout(self.request_timeout);
        BoxCloneSyncService::new(layers.service(service))
    }
}

fn explain(response: Response) -> Response {
    match Status::from_header_map(response.headers()) {
        Some(told) if told.code() == Code::OutOfRange => explained(told).into_http(),
        _ => response,
    }
}

async fn refuse(error: BoxError) -> Response {
    let error = if error.is::<Overloaded>() {
        Error::LimitReached { limit: Limit::Requests }
    } else if error.is::<Elapsed>() {
        Error::TimedOut
    } else {
        Error::Defect { detail: error.to_string() }
    };
    status(&error).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::{ServiceExt, service_fn};

    /// The code of the answer of a service that answers after `seconds`.
    async fn code(layered: Layered) -> Code {
        let response = layered.oneshot(Request::new(Body::empty())).await.unwrap();
        Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
    }

    fn slow(layers: &Layers, seconds: u64) -> Layered {
        layers.around(service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(http::Response::new(Body::empty()))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_is_shared_and_sheds() {
        let layers = Layers::new(Arc::new(Semaphore::new(1)), Duration::from_secs(30));
        let (first, second) = tokio::join!(code(slow(&layers, 5)), code(slow(&layers, 5)));
        assert_eq!((first, second), (Code::Ok, Code::ResourceExhausted));
        assert_eq!(code(slow(&layers, 5)).await, Code::Ok);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_gives_its_place_free() {
        let layers = Layers::new(Arc::new(Semaphore::new(1)), Duration::from_secs(30));
        assert_eq!(code(slow(&layers, 31)).await, Code::DeadlineExceeded);
        assert_eq!(code(slow(&layers, 1)).await, Code::Ok);
    }
}
