//! The page: one file that asks its own server how the run stands, and nobody else.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::cli::report::colours;

const SCRIPT: &str = include_str!("page.js");

/// Its colours are those of reports.
static STYLE: LazyLock<String> = LazyLock::new(|| format!("{}\n{}", colours(), include_str!("page.css")));

pub(super) static PAGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"dynvis {}\">\n<title>dynvis watch</title>\n<style>{}</style>\n</head>\n\
         <body>\n<main id=\"page\"><p>Asking how the run stands …</p></main>\n\
         <noscript>This page needs its script; <code>dynvis watch</code> shows the same in a terminal.</noscript>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        *STYLE
    )
});

/// What a browser may do for this page: run this script, use this style, ask this server.
pub(super) fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
        format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(&STYLE),
            hash(SCRIPT)
        )
    });
    &POLICY
}
