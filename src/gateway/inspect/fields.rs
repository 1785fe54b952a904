//! Header fields on their way from one connection to the other: what belongs to a connection stays there.

use http::header::{
    ACCEPT_ENCODING, ALT_SVC, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SEC_WEBSOCKET_EXTENSIONS, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::gateway::inspect::judge::lists;

/// Fields of a connection, whatever its `Connection` field names besides.
const OF_THE_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Makes a request's fields those of a new request: to the host itself, its length written anew.
pub(super) fn of_request(headers: &mut HeaderMap) {
    let trailers = lists(headers, TE, "trailers");
    of_connection(headers);
    // The client's side has answered an expectation, and the host's name is written from what was reached.
    for name in [EXPECT, HOST, CONTENT_LENGTH] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Makes a response's fields those of a new response. Ways to the host that a task does not have are left out.
pub(super) fn of_response(headers: &mut HeaderMap) {
    of_connection(headers);
    headers.remove(ALT_SVC);
}

/// Asks for a body that can be read.
pub(super) fn ask_for_plain(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
}

/// The coding of a body, where it has one.
pub(super) fn coding(headers: &HeaderMap) -> Option<String> {
    let codings = headers.get_all(CONTENT_ENCODING).into_iter();
    let told: Vec<String> = codings.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned()).collect();
    let plain = told.iter().flat_map(|it| it.split(',')).map(str::trim);
    let plain = plain.filter(|it| !it.is_empty()).all(|it| it.eq_ignore_ascii_case("identity"));
    (!plain).then(|| told.join(", "))
}

fn of_connection(headers: &mut HeaderMap) {
    let values = headers.get_all(CONNECTION).into_iter().filter_map(|it| it.to_str().ok());
    let named: Vec<HeaderName> =
        values.flat_map(|it| it.split(',')).filter_map(|it| it.trim().parse().ok()).collect();
    for name in named.iter().chain(&OF_THE_CONNECTION) {
        headers.remove(name);
    }
}
