//! Requests, and what their answers mean.

use std::io::Read;
use std::time::Duration;

use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use crate::Options;
use crate::backend::Trouble;

pub(crate) fn agent(options: &Options) -> Agent {
    let config = Agent::config_builder()
        .proxy(Proxy::try_from_env())
        .tls_config(TlsConfig::builder().root_certs(certificates()).build())
        .user_agent(concat!("dynvis/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        // A signature is for one host.
        .max_redirects(0)
        .timeout_connect(Some(options.patience))
        .timeout_recv_response(Some(options.patience))
        .timeout_per_read(Some(options.patience))
        .timeout_per_write(Some(options.patience));
    config.build().into()
}

/// The system's, among them those of a lab's own storage; where it has none, Mozilla's.
fn certificates() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    RootCerts::from(found.iter().map(|der| Certificate::from_der(der).to_owned()))
}

/// A request that had no answer. Its address is signed, so it is not repeated.
pub(crate) fn no_answer(error: &ureq::Error) -> Trouble {
    let reason = match error {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::ConnectionFailed => "cannot be connected to".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::BadUri(_) => "its address is none".to_owned(),
        error => error.to_string(),
    };
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            Trouble::lasting(reason, "look at AWS_ENDPOINT_URL")
        }
        _ => Trouble::passing(reason),
    }
}

/// The beginning of a body, which says what is wrong.
pub(crate) fn text_of(response: &mut Response<Body>, most: u64) -> Result<String, Trouble> {
    let mut text = Vec::new();
    let read = response.body_mut().as_reader().take(most).read_to_end(&mut text);
    read.map_err(|error| Trouble::passing(error.to_string()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// `NoSuchKey` of `<Error><Code>NoSuchKey</Code>…`.
pub(crate) fn code_of(text: &str) -> &str {
    let code = between(text, "<Code>", "</Code>");
    match code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()) {
        true => code,
        false => "",
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let rest = text.split_once(begin).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(found, _)| found)
}

/// What the server says of an error in words, short and in one line.
fn message_of(text: &str) -> String {
    let words = between(text, "<Message>", "</Message>").split_whitespace();
    let message: String = words.collect::<Vec<_>>().join(" ");
    message.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What a status other than success means.
pub(crate) fn refusal(response: &mut Response<Body>) -> Trouble {
    let status = response.status();
    let text = text_of(response, 1 << 14).unwrap_or_default();
    let code = code_of(&text).to_owned();
    let reason = match code.as_str() {
        "" => format!("the server answers {status}"),
        code => match message_of(&text).as_str() {
            "" => format!("the server answers {status}: {code}"),
            message => format!("the server answers {status}: {code} ({message})"),
        },
    };
    let is_passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
        || matches!(code.as_str(), "RequestTimeout" | "SlowDown" | "InternalError");
    if is_passing {
        let after = response.headers().get(header::RETRY_AFTER);
        let seconds = after.and_then(|text| text.to_str().ok()?.trim().parse().ok());
        return Trouble::Passing {
            reason,
            pause: seconds.map(Duration::from_secs),
        };
    }
    let region = response.headers().get("x-amz-bucket-region");
    let region = region.and_then(|region| region.to_str().ok()).unwrap_or_default();
    let advice = match (status, code.as_str()) {
        (_, "NoSuchBucket") => "make the bucket first".to_owned(),
        (_, "ExpiredToken" | "RequestTimeTooSkewed") => "renew the keys, and look at this machine's clock".to_owned(),
        (status, _) if status.is_redirection() && !region.is_empty() => format!("set AWS_REGION={region}"),
        (status, _) if status.is_redirection() => "set AWS_REGION to where the bucket is".to_owned(),
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _) => {
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are to be those of someone who may list, read and write there"
                .to_owned()
        }
        (StatusCode::BAD_REQUEST, "" | "AuthorizationHeaderMalformed" | "InvalidRequest") => {
            "look at AWS_REGION and AWS_ENDPOINT_URL".to_owned()
        }
        _ => String::new(),
    };
    Trouble::lasting(reason, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_a_word() {
        assert_eq!(code_of("<Error><Code>NoSuchKey</Code><Key>x</Key>"), "NoSuchKey");
        for text in ["", "<Code>", "<Code>\u{1b}[31m</Code>", "<Code>a b</Code>"] {
            assert_eq!(code_of(text), "", "{text}");
        }
    }
}
