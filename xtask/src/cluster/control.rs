//! The socket on which the node's first process takes requests: to start a part and to stop one. Tests take the API server
//! away and bring it back.

use super::{parts::Part, record, supervisor::Supervisor};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    sync::Arc,
};

const SOCKET: &str = "control";

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Start a part, unless it runs.
    Start(Part),
    /// Stop a part, if it runs.
    Stop(Part),
}

impl Request {
    fn line(self) -> String {
        match self {
            Self::Start(part) => format!("start {}", part.name()),
            Self::Stop(part) => format!("stop {}", part.name()),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (verb, name) = line.trim().split_once(' ')?;
        let part = Part::of_name(name)?;
        match verb {
            "start" => Some(Self::Start(part)),
            "stop" => Some(Self::Stop(part)),
            _ => None,
        }
    }
}

/// Asks, and waits until it is done.
///
/// # Errors
/// When nobody listens, or it could not be done.
pub(super) fn ask(request: Request) -> Result<()> {
    let path = record::path(SOCKET);
    let mut stream = UnixStream::connect(&path).with_context(|| format!("ask the cluster at {}", path.display()))?;
    writeln!(stream, "{}", request.line()).context("ask the cluster")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("hear from the cluster")?;
    match answer.trim() {
        "done" => Ok(()),
        "" => bail!("the cluster ended while it was asked to {}", request.line()),
        error => bail!("{error}"),
    }
}

/// Opens the socket, for root alone.
///
/// # Errors
/// When it cannot be made.
pub(super) fn listen() -> Result<UnixListener> {
    let path = record::path(SOCKET);
    let listener = UnixListener::bind(&path).with_context(|| format!("listen at {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("keep the socket to root")?;
    Ok(listener)
}

/// Serves for ever.
pub(super) fn serve(listener: &UnixListener, supervisor: &Arc<Supervisor>) -> ! {
    loop {
        // A client that went away before it had its answer does not need it.
        let _ = listener.accept().map_err(Into::into).and_then(|(stream, _)| answer(stream, supervisor));
    }
}

fn answer(mut stream: UnixStream, supervisor: &Arc<Supervisor>) -> Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let outcome = match Request::parse(&line) {
        Some(Request::Start(part)) => supervisor.start(part),
        Some(Request::Stop(part)) => supervisor.stop(part),
        None => Err(anyhow::anyhow!("not understood: {}", line.trim())),
    };
    match outcome {
        Ok(()) => writeln!(stream, "done")?,
        Err(error) => writeln!(stream, "{}", format!("{error:#}").replace('\n', " "))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_understood_as_it_was_meant() {
        for request in [Request::Start(Part::Kubelet), Request::Stop(Part::KubeApiserver)] {
            assert_eq!(Request::parse(&request.line()), Some(request));
        }
        assert_eq!(Request::parse("stop everything"), None);
        assert_eq!(Request::parse(""), None);
    }
}
