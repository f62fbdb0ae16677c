//! Which content encoding a request asks for.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;

/// Whether gzip is acceptable and wanted at least as much as no encoding (RFC 9110, section 12.5.3). No header: no gzip.
pub(super) fn wants_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for offer in values.flat_map(|value| value.split(',')) {
        let (coding, weight) = weigh(offer);
        match () {
            () if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => gzip = weight,
            () if coding.eq_ignore_ascii_case("identity") => identity = weight,
            () if coding == "*" => any = weight,
            () => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// `gzip;q=0.5` is gzip with 500; a weight that is none counts as nothing said.
fn weigh(offer: &str) -> (&str, Option<u32>) {
    let mut parts = offer.split(';').map(str::trim);
    let coding = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let Some(weight) = weight else { return (coding, Some(1000)) };
    let thousandths = weight.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight));
    (coding, thousandths.map(|weight| (weight * 1000.0).round() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_values_decide() {
        for (header, wanted) in [
            ("gzip", true),
            ("GZip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("gzip;q=0.001", true),
            ("*", true),
            ("identity;q=0.5, *;q=0.6", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("*, gzip;q=0", false),
            ("gzip;q=0.5, identity", false),
            ("identity", false),
            ("br", false),
            ("gzip;q=nonsense", false),
            ("gzipped", false),
            ("", false),
        ] {
            let headers = [(ACCEPT_ENCODING, header.parse().unwrap())].into_iter().collect();
            assert_eq!(wants_gzip(&headers), wanted, "{header:?}");
        }
    }

    #[test]
    fn no_header_is_no_gzip_and_several_are_one() {
        assert!(!wants_gzip(&HeaderMap::new()));
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT_ENCODING, "br".parse().unwrap());
        headers.append(ACCEPT_ENCODING, "gzip".parse().unwrap());
        assert!(wants_gzip(&headers));
    }
}
