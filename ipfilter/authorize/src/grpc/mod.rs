//! gRPC: Envoy's `envoy.service.auth.v3.Authorization/Check`.

mod messages;

use std::{
    collections::HashMap,
    future::{Ready, ready},
    sync::Arc,
};

use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming};
use tonic::{
    Code, Status,
    server::{Grpc, UnaryService},
};
use tonic_prost::ProstCodec;

use crate::{
    answer::{Body, Denial, HEADERS, STATEMENT_HEADER},
    gate::Gate,
    question::{Headers, Line, Peer},
    refusal::Refusal,
};
use messages::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue,
    HeaderValueOption, HttpResponse, HttpStatus,
};

/// The path of the only method.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The most bytes of one request.
const LONGEST: usize = 64 << 10;

/// The status of an HTTP answer to a denied client.
const FORBIDDEN: i32 = 403;

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
    let response = if call.uri().path() == CHECK {
        call.extensions_mut().insert(peer);
        Grpc::new(ProstCodec::default())
            .max_decoding_message_size(LONGEST)
            .unary(Check(gate), call)
            .await
    } else {
        Status::unimplemented("there is only Check").into_http()
    };
    response.map(|body: tonic::body::Body| body.map_err(Into::into).boxed_unsync())
}

impl UnaryService<CheckRequest> for Check {
    type Response = CheckResponse;
    type Future = Ready<Result<tonic::Response<CheckResponse>, Status>>;

    fn call(&mut self, call: tonic::Request<CheckRequest>) -> Self::Future {
        let peer = call.extensions().get::<Peer>().copied();
        let peer = peer.ok_or_else(|| Status::internal("the caller is not known"));
        ready(peer.map(|peer| tonic::Response::new(self.check(peer, call.get_ref()))))
    }
}

impl Check {
    fn check(&self, peer: Peer, check: &CheckRequest) -> CheckResponse {
        let attributes = check.attributes.as_ref();
        let request = attributes.and_then(|all| all.request.as_ref()?.http.as_ref());
        let answer = match request {
            Some(request) => {
                let line = Line {
                    method: &request.method,
                    target: &request.path,
                    last: attributes.and_then(source),
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
        match answer {
            Ok(()) => CheckResponse {
                status: Some(status(Code::Ok, "allowed")),
                http_response: None,
            },
            Err(denial) => denied(denial),
        }
    }
}

/// Who Envoy is connected to.
fn source(attributes: &AttributeContext) -> Option<std::net::IpAddr> {
    let address = attributes.source.as_ref()?.address.as_ref()?;
    address.socket_address.as_ref()?.address.parse().ok()
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
    let statement = denial.statement.as_deref();
    let statement = statement.map(|statement| (STATEMENT_HEADER, statement));
    let headers = HEADERS.into_iter().chain(statement);
    CheckResponse {
        status: Some(status(Code::PermissionDenied, "denied")),
        http_response: Some(HttpResponse::Denied(DeniedHttpResponse {
            status: Some(HttpStatus { code: FORBIDDEN }),
            headers: headers.map(header).collect(),
            body: denial.body,
        })),
    }
}

fn status(code: Code, message: &str) -> messages::Status {
    messages::Status {
        code: code.into(),
        message: message.to_owned(),
    }
}

fn header((key, value): (&str, &str)) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
        }),
    }
}
