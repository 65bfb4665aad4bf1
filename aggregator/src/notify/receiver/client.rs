//! What all who are told are told through: a client that shows nobody what is secret.

use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header;
use reqwest::redirect::Policy;

use crate::notify::receiver::Failure;

/// A text that must not be seen, or the file that holds it: read for each message, so that it may change.
#[derive(Clone)]
pub enum Secret {
    /// As written in the configuration.
    Inline(String),
    /// Read from this file.
    File(PathBuf),
}

/// How the sender proves who it is.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// `Authorization: <scheme> <credentials>`.
    Scheme(String, Secret),
    /// A name and a password.
    Basic(String, Secret),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("<secret>"),
            Self::File(path) => write!(f, "<secret in {}>", path.display()),
        }
    }
}

impl Authorization {
    /// What is secret of it.
    pub(super) const fn secret(&self) -> &Secret {
        match self {
            Self::Scheme(_, secret) | Self::Basic(_, secret) => secret,
        }
    }
}

impl Secret {
    /// Its file, if it has one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Inline(_) => None,
            Self::File(path) => Some(path),
        }
    }

    /// The text.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub(super) fn read(&self) -> Result<String, Failure> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::File(path) => fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|error| Failure::Lasting(format!("cannot read {}: {error}", path.display()))),
        }
    }
}

/// What is posted.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    /// Where to.
    pub url: &'a str,
    /// Who sends it.
    pub authorization: Option<&'a Authorization>,
    /// Names and values.
    pub headers: Vec<(&'a str, &'a str)>,
    /// How long the answer may take.
    pub timeout: Duration,
    /// The rest.
    pub body: Vec<u8>,
}

/// What all webhooks are told through. Cloning shares its connections.
#[derive(Clone, Debug)]
pub struct Client(reqwest::Client);

impl Client {
    /// A client that follows no redirects: they would carry what is secret elsewhere. On a system without certificates of
    /// authorities it believes none.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> anyhow::Result<Self> {
        // The first to install a provider wins; it is ring everywhere.
        drop(rustls::crypto::ring::default_provider().install_default());
        let agent = concat!("lapwing/", env!("CARGO_PKG_VERSION"));
        let builder = || reqwest::Client::builder().redirect(Policy::none()).user_agent(agent);
        let client = builder().build().or_else(|error| {
            let why = reason(error);
            tracing::warn!(
                why,
                "https receivers cannot be told: install the certificates of authorities (ca-certificates)"
            );
            builder().tls_certs_only([]).build()
        });
        Ok(Self(client?))
    }

    /// Posts, and answers the status.
    ///
    /// # Errors
    /// When there is no answer. What is said contains no part of the URL.
    pub async fn post(&self, post: Post<'_>) -> Result<StatusCode, Failure> {
        let Post { url, authorization, headers, timeout, body } = post;
        let mut request = self.0.post(url).timeout(timeout).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request = match authorization {
            None => request,
            Some(Authorization::Basic(name, password)) => request.basic_auth(name, Some(password.read()?)),
            Some(Authorization::Scheme(scheme, credentials)) => {
                request.header(header::AUTHORIZATION, format!("{scheme} {}", credentials.read()?))
            }
        };
        match request.send().await {
            Ok(answer) => Ok(answer.status()),
            Err(error) if error.is_builder() => {
                Err(Failure::Lasting("the URL is not one that can be sent to".to_owned()))
            }
            Err(error) => Err(Failure::Passing(reason(error))),
        }
    }
}

/// The whole chain of causes, without the URL.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        return "the receiver did not answer in time".to_owned();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
