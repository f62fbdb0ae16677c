//! One request to the debug listener, by the HTTP library that the agent has already.

use super::complain;
use crate::{causes::in_one_line, history::ApiError};
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::{Request, Uri, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use std::{pin::pin, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

/// More than an agent with a slow disk takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// When it is said for the first time that there is no answer yet, and how often from then on.
const FIRST_WORD: Duration = Duration::from_secs(2);
const NEXT_WORD: Duration = Duration::from_secs(5);
/// A snapshot of ten thousand entities has a kilobyte of each.
const MOST_BYTES: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct Refusal {
    error: ApiError,
}

/// Asks the agent at an address and port, and says so when that takes its time.
///
/// # Errors
/// With what to do.
pub(super) fn ask<T: DeserializeOwned>(agent: &str, target: &str) -> anyhow::Result<T> {
    asked(agent, target, |waited| {
        complain(&format!(
            "{agent} has not answered for {} seconds; it is given {}",
            waited.as_secs(),
            PATIENCE.as_secs()
        ));
    })
}

/// The same without a word.
///
/// # Errors
/// As above.
pub(super) fn ask_silently<T: DeserializeOwned>(agent: &str, target: &str) -> anyhow::Result<T> {
    asked(agent, target, |_| ())
}

fn asked<T: DeserializeOwned>(agent: &str, target: &str, waits: impl Fn(Duration)) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, body) = runtime.block_on(in_time(agent, exchange(agent, target), waits))?;
    if status == 200 {
        return serde_json::from_slice(&body)
            .with_context(|| format!("{agent} answers something else than an agent of this version does"));
    }
    match serde_json::from_slice::<Refusal>(&body) {
        Ok(Refusal { error }) => bail!("{error}"),
        Err(_) => bail!(
            "{agent} answers with status {status}, as no agent's debug listener does; that is 127.0.0.1:9811, and not the metrics' 9810"
        ),
    }
}

async fn in_time<T>(
    agent: &str,
    exchange: impl Future<Output = anyhow::Result<T>>,
    waits: impl Fn(Duration),
) -> anyhow::Result<T> {
    let mut exchange = pin!(exchange);
    let (begun, mut word) = (Instant::now(), FIRST_WORD);
    while begun.elapsed() < PATIENCE {
        if let Ok(answer) = timeout(word.min(PATIENCE.saturating_sub(begun.elapsed())), &mut exchange).await {
            return answer;
        }
        if begun.elapsed() < PATIENCE {
            waits(begun.elapsed());
        }
        word = NEXT_WORD;
    }
    bail!("{agent} does not answer within {} seconds; is it an agent's debug listener?", PATIENCE.as_secs())
}

/// `http://ADDRESS:PORT`, of which the last part is needed.
pub(super) fn authority(url: &str) -> Result<String, String> {
    let uri = url
        .parse::<Uri>()
        .ok()
        .filter(|uri| uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none());
    let authority = uri.as_ref().and_then(Uri::authority);
    let plain = authority.filter(|authority| authority.port().is_some() && !authority.as_str().contains('@'));
    plain.map(ToString::to_string).ok_or_else(|| "wanted: http://ADDRESS:PORT, such as http://127.0.0.1:9811".into())
}

async fn exchange(authority: &str, target: &str) -> anyhow::Result<(u16, Bytes)> {
    let stream = TcpStream::connect(authority).await.map_err(|error| {
        anyhow!(
            "no agent listens on {authority}: {error}; start one on this machine, or reach one in a cluster by \
             `kubectl -n observer port-forward POD 9811`, where POD is the agent of the node"
        )
    })?;
    let failed = |error: hyper::Error| anyhow!("{authority} does not answer as an agent does: {}", in_one_line(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let request = Request::get(target).header(HOST, authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
    let body = body.map_err(|error| anyhow!("{authority} breaks off: {}", in_one_line(&*error)))?;
    Ok((status, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, future::pending};

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_so_and_in_the_end_that_there_is_no_answer() {
        let told = RefCell::new(Vec::new());
        let waits = |waited: Duration| told.borrow_mut().push(waited.as_secs());
        let answer = in_time("127.0.0.1:9811", pending::<anyhow::Result<()>>(), waits).await;
        assert_eq!(told.take(), [2, 7, 12, 17, 22, 27]);
        assert!(answer.unwrap_err().to_string().contains("does not answer within 30 seconds"));
        let soon = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Ok(7)
        };
        assert_eq!(in_time("", soon, waits).await.unwrap(), 7);
        assert_eq!(told.take(), [2]);
    }
}
