//! `ipfilter mock`: an API to protect, for trying things out.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use log::{debug, info, warn};
use tokio::net::TcpListener;

use super::Exit;

/// Answer every HTTP request with 200, like API Gateway's mock integration
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address and port to listen on, such as 127.0.0.1:8080, or [::]:80 for both families
    #[arg(long, required = true, value_delimiter = ',', value_name = "ADDR,...")]
    listen: Vec<SocketAddr>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut servers = tokio::task::JoinSet::new();
        for address in args.listen {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("can't listen at {address}"))?;
            info!("listening at http://{}", listener.local_addr()?);
            servers.spawn(serve(listener));
        }
        servers.spawn(async { tokio::signal::ctrl_c().await.map_err(Into::into) });
        servers.join_next().await.context("nothing to serve")??
    })?;
    Ok(Exit::Fine)
}

/// How long it waits where there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Such as too many open files: clients that leave make room.
                warn!("can't take a client: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
            if let Err(error) = served {
                debug!("{client}: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    info!("{} {}", request.method(), request.uri());
    let mut response = Response::new(Full::from("{\"statusCode\": 200}\n"));
    response.headers_mut().insert(
        CONTENT_TYPE,
        "application/json".parse().expect("a media type"),
    );
    Ok(response)
}
