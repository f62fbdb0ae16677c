//! Binding the listener, with errors that say what to do.

use nix::sys::socket::{setsockopt, sockopt::SndBuf};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

/// What the kernel keeps of a response that its client does not read: it is the agent's memory, too, and would be some megabytes else. Each
/// connection has as much as its listener.
const SENT_BYTES: usize = 128 * 1024;

/// Why the address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {address}: the port is in use; stop the process that has it (`ss -ltnp 'sport = :{port}'` names \
         it) or choose another with {flag}",
        port = address.port()
    )]
    InUse {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that says so.
        flag: &'static str,
    },
    /// A port below 1024 without the privilege.
    #[error(
        "cannot listen on {address}: permission denied; choose a port above 1023 with {flag} or grant \
         CAP_NET_BIND_SERVICE"
    )]
    Denied {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that says so.
        flag: &'static str,
    },
    /// No device has the address.
    #[error(
        "cannot listen on {address}: this node has no such address; choose one of `ip -brief address` or 0.0.0.0 with \
         {flag}"
    )]
    NotOurs {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that says so.
        flag: &'static str,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {error}; choose another address with {flag}")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that says so.
        flag: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Listens on `address`, which the flag `flag` says; port 0 takes a free one. Needs no runtime, since the agent binds before it has one.
///
/// # Errors
/// With the address and what to do.
pub fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        setsockopt(&listener, SndBuf, &SENT_BYTES)?;
        Ok(listener)
    });
    listener.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => BindError::InUse { address, flag },
        ErrorKind::PermissionDenied => BindError::Denied { address, flag },
        ErrorKind::AddrNotAvailable => BindError::NotOurs { address, flag },
        _ => BindError::Other { address, flag, error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let first = bind("--metrics-listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind("--debug-listen", address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: the port is in use")), "{error}");
        assert!(
            error.contains(&format!("sport = :{}'", address.port())) && error.contains("--debug-listen"),
            "{error}"
        );
    }

    #[test]
    fn an_address_of_another_node_is_told() {
        let error = bind("--metrics-listen", "192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("this node has no such address"), "{error}");
    }
}
