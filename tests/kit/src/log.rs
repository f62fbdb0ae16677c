//! What an agent's log tells.

use std::net::SocketAddr;

/// The address in `http://ADDRESS` with a path, once such a line is there.
pub fn listening_on(log: &str, path: &str) -> Option<SocketAddr> {
    log.split("http://").skip(1).find_map(|rest| rest.split_once(path)?.0.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_is_found_by_its_path_and_no_other_is_taken_for_it() {
        let metrics = "INFO metrics on http://127.0.0.1:5/metrics\n";
        let log = format!("{metrics}INFO the web page on http://[::1]:7/, the API on http://[::1]:7/api/v1\n");
        assert_eq!(listening_on(&log, "/metrics"), "127.0.0.1:5".parse().ok());
        assert_eq!(listening_on(&log, "/api/v1"), "[::1]:7".parse().ok());
        assert_eq!(listening_on(metrics, "/api/v1"), None);
    }
}
