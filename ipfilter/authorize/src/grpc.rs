//! gRPC: Envoy's `envoy.service.auth.v3.Authorization/Check`.

use std::{collections::HashMap, sync::Arc};

use envoy_types::{
    ext_authz::v3::{
        CheckRequestExt as _, CheckResponseExt as _, DeniedHttpResponseBuilder,
        pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse, HttpStatusCode},
    },
    pb::envoy::service::auth::v3::AttributeContext,
};
use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming};
use tonic::Status;
use tower_service::Service as _;

use crate::{
    answer::{Body, Denial, HEADERS, STATEMENT_HEADER},
    gate::Gate,
    question::{Headers, Line, Peer},
    refusal::Refusal,
};

/// The most bytes of one request.
const LONGEST: usize = 64 << 10;

/// The context extension of a route that names the API.
const API: &str = "ipfilter_api";

struct Check(Arc<Gate>);

/// Headers as Envoy hands them on, with names in lower case and repeated ones joined by commas.
struct Sent<'a>(Option<&'a HashMap<String, String>>);

impl Headers for Sent<'_> {
    fn all(&self, name: &str) -> Option<Vec<&str>> {
        let value = self.0.and_then(|headers| headers.get(name));
        Some(value.into_iter().map(String::as_str).collect())
    }
}

/// Answers one call.
pub(crate) async fn answer(
    gate: Arc<Gate>,
    peer: Peer,
    mut call: Request<Incoming>,
) -> Response<Body> {
    call.extensions_mut().insert(peer);
    let mut server = AuthorizationServer::new(Check(gate)).max_decoding_message_size(LONGEST);
    let response = match server.call(call).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

#[tonic::async_trait]
impl Authorization for Check {
    async fn check(
        &self,
        call: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, Status> {
        let peer = call.extensions().get::<Peer>().copied();
        let peer = peer.ok_or_else(|| Status::internal("the caller is not known"))?;
        let check = call.get_ref();
        let attributes = check.attributes.as_ref();
        let request = attributes.and_then(|all| all.request.as_ref()?.http.as_ref());
        let answer = match request {
            Some(request) => {
                let line = Line {
                    method: &request.method,
                    target: &request.path,
                    last: source(check),
                    secure: secure(attributes, &request.scheme),
                    api: attributes
                        .and_then(|all| all.context_extensions.get(API))
                        .map(String::as_str),
                    is_clients: true,
                };
                let mut headers = request.headers.clone();
                if !request.host.is_empty() {
                    headers.insert("host".to_owned(), request.host.clone());
                }
                self.0.ask(peer, &Sent(Some(&headers)), line)
            }
            None => {
                self.0.refuse(peer, Refusal::Malformed);
                Err(Denial::unjudged())
            }
        };
        Ok(tonic::Response::new(match answer {
            Ok(()) => CheckResponse::with_status(Status::ok("allowed")),
            Err(denial) => denied(denial),
        }))
    }
}

/// Who Envoy is connected to.
fn source(check: &CheckRequest) -> Option<std::net::IpAddr> {
    check.get_client_address()?.parse().ok()
}

/// Whether the client's connection is encrypted, as Envoy knows by itself.
fn secure(attributes: Option<&AttributeContext>, scheme: &str) -> Option<bool> {
    match scheme {
        "https" => Some(true),
        "http" => Some(false),
        _ => attributes.map(|all| all.tls_session.is_some()),
    }
}

fn denied(denial: Denial) -> CheckResponse {
    let mut answer = DeniedHttpResponseBuilder::new();
    answer.set_http_status(HttpStatusCode::Forbidden);
    for (name, value) in HEADERS {
        answer.add_header(name, value, None, false);
    }
    if let Some(statement) = denial.statement {
        answer.add_header(STATEMENT_HEADER, statement, None, false);
    }
    answer.set_body(denial.body);
    let mut response = CheckResponse::with_status(Status::permission_denied("denied"));
    response.set_http_response(answer);
    response
}
