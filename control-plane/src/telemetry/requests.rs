//! Requests to the API: how many, with what end, how long.

use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web;
use prometheus::{HistogramVec, IntCounterVec};

use super::families::Families;

/// Seconds: most answers are one query, a login hashes a password.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// The route of a path that is in no table.
const NOWHERE: &str = "none";

/// Counts requests.
#[derive(Clone)]
pub struct RequestMetrics {
    finished: IntCounterVec,
    seconds: HistogramVec,
}

impl RequestMetrics {
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            finished: families.counters(
                "requests_total",
                "Requests to the API, by the pattern of their path, method and class of status.",
                &["route", "method", "status"],
            )?,
            seconds: families.histograms(
                "request_duration_seconds",
                "Seconds from a request's head to the head of its answer.",
                &["route", "method"],
                &SECONDS,
            )?,
        })
    }

    fn finished(&self, route: &str, method: &str, status: StatusCode, took: Duration) {
        let class = class(status);
        self.finished
            .with_label_values(&[route, method, class])
            .inc();
        self.seconds
            .with_label_values(&[route, method])
            .observe(took.as_secs_f64());
    }
}

/// Counts a request when the head of its answer is there. The route is the pattern in the table of paths, never
/// the path that the client wrote.
pub(crate) async fn measure(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let began = Instant::now();
    let metrics = request.app_data::<web::Data<RequestMetrics>>().cloned();
    let method = method(request.method());
    let answer = next.call(request).await;
    if let Some(metrics) = metrics {
        let (route, status) = match &answer {
            Ok(answer) => (answer.request().match_pattern(), answer.status()),
            Err(error) => (None, error.as_response_error().status_code()),
        };
        let route = route.as_deref().unwrap_or(NOWHERE);
        metrics.finished(route, method, status, began.elapsed());
    }
    answer
}

/// A method's name; clients can make names up, so those that no path has are one.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{App, HttpResponse};

    use super::super::Metrics;
    use super::*;

    #[actix_web::test]
    async fn labels_come_from_the_table_of_paths_and_never_from_the_client() {
        let metrics = Metrics::new().unwrap();
        let app = App::new()
            .app_data(web::Data::new(metrics.requests.clone()))
            .route("/nodes/{id}", web::get().to(HttpResponse::Ok))
            .wrap(from_fn(measure));
        let service = init_service(app).await;
        for (method, path) in [
            ("GET", "/nodes/1"),
            ("GET", "/nodes/2"),
            ("BREW", "/nodes/3"),
            ("GET", "/a-made-up-path"),
        ] {
            let request = TestRequest::with_uri(path).method(method.parse().unwrap());
            call_service(&service, request.to_request()).await;
        }
        let text = metrics.render().unwrap();
        for line in [
            r#"requests_total{method="GET",route="/nodes/{id}",status="2xx"} 2"#,
            r#"requests_total{method="other",route="/nodes/{id}",status="4xx"} 1"#,
            r#"requests_total{method="GET",route="none",status="4xx"} 1"#,
            r#"request_duration_seconds_count{method="GET",route="/nodes/{id}"} 2"#,
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(
            !text.contains("BREW") && !text.contains("made-up"),
            "{text}"
        );
    }
}
