//! Every "no" that Keyward says, and the one place that turns it into a response.

mod shape;

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::{grpc, quota};
use crate::auth::VerifierError;
use crate::limit::Refused;
use crate::policy::{BadPath, ErrorFormat, MissingScope, TurnedAway};

/// A refusal before the response head.
#[derive(Debug)]
pub enum Refusal {
    MissingKey,
    AmbiguousKey,
    InvalidKey,
    InsufficientScope(MissingScope),
    TrustedContextRequired,
    RateLimited(Refused),
    InputTooLong,
    InputBlocked,
    /// The client's address is none of those that the route takes.
    AddressNotAllowed,
    /// The client's certificate has none of the names that the route takes.
    CertificateNotAllowed,
    /// A browser asks for a website whose scripts may not use the route.
    OriginNotAllowed,
    RouteNotFound,
    /// The value of `Allow`.
    MethodNotAllowed(String),
    BadPath(BadPath),
    /// `Host` is missing, repeated, or not a host.
    BadHost,
    BadBody(String),
    /// Why the body cannot be scanned.
    UnscannableBody(&'static str),
    BodyTooLarge,
    /// Why a handshake, or a frame, is not one of RFC 6455.
    BadWebSocket(&'static str),
    /// A version of the WebSocket protocol that is not spoken.
    WebSocketVersion,
    RequestTimeout,
    /// The client broke off its request; nobody reads this answer.
    RequestAborted,
    ResponseBlocked,
    ResponseTooLong,
    /// Why the response cannot be scanned.
    UnscannableResponse(&'static str),
    VerifierUnavailable(VerifierError),
    UpstreamUnreachable(std::io::Error),
    UpstreamTimeout,
    UpstreamBroken(String),
    /// The client wants no answer after so long a time.
    DeadlineExceeded,
    /// The service failed so often that it is left alone for this long.
    UpstreamUnavailable(Duration),
    Overloaded(&'static str),
}

/// Whose fault a refusal is, which decides how loudly the log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Client,
    Upstream,
    Keyward,
}

/// Whether a client that sends the same request again could get another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// It could not; both official SDKs obey a header that says so.
    Never,
    Maybe,
    /// Not before this time.
    After(Duration),
}

/// What a refusal is, in one row.
#[derive(Debug)]
struct Row {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// When a dependency that is away may be back.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

impl Refusal {
    /// The table of refusals: every one has its row, and the compiler sees to it.
    fn row(&self) -> Row {
        use StatusCode as S;
        let scope;
        let path;
        let body;
        let (status, code, message) = match self {
            Self::MissingKey => (S::UNAUTHORIZED, "MISSING_KEY", "Missing API key"),
            Self::AmbiguousKey => (S::BAD_REQUEST, "AMBIGUOUS_KEY", "Ambiguous credentials"),
            Self::InvalidKey => (S::UNAUTHORIZED, "INVALID_KEY", "Invalid API key"),
            Self::InsufficientScope(missing) => {
                scope = format!("Insufficient scope: {missing}");
                (S::FORBIDDEN, "INSUFFICIENT_SCOPE", scope.as_str())
            }
            Self::TrustedContextRequired => {
                let message = "Trusted context required (user-level or org-level API key)";
                (S::FORBIDDEN, "TRUSTED_CONTEXT_REQUIRED", message)
            }
            Self::RateLimited(_) => (S::TOO_MANY_REQUESTS, "AI_RATE_LIMITED", "AI rate limit exceeded"),
            Self::InputTooLong => (S::BAD_REQUEST, "AI_INPUT_TOO_LONG", "Input too long"),
            Self::InputBlocked => (S::BAD_REQUEST, "AI_INPUT_BLOCKED", "Input contains potentially harmful content"),
            Self::AddressNotAllowed => (S::FORBIDDEN, "ADDRESS_NOT_ALLOWED", "Not allowed from this address"),
            Self::CertificateNotAllowed => {
                (S::FORBIDDEN, "CERTIFICATE_NOT_ALLOWED", "Not allowed with this client certificate")
            }
            Self::OriginNotAllowed => (S::FORBIDDEN, "ORIGIN_NOT_ALLOWED", "Not allowed from this origin"),
            Self::RouteNotFound => (S::NOT_FOUND, "ROUTE_NOT_FOUND", "No such route"),
            Self::MethodNotAllowed(_) => {
                (S::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed on this route")
            }
            Self::BadPath(why) => {
                path = format!("Bad request path: {why}");
                (S::BAD_REQUEST, "BAD_PATH", path.as_str())
            }
            Self::BadHost => (S::BAD_REQUEST, "BAD_HOST", "Exactly one valid Host header is required"),
            Self::BadBody(why) => {
                body = format!("Bad request body: {why}");
                (S::BAD_REQUEST, "BAD_BODY", body.as_str())
            }
            Self::UnscannableBody(why) => {
                body = format!("Request body cannot be inspected: {why}");
                (S::UNSUPPORTED_MEDIA_TYPE, "UNSCANNABLE_BODY", body.as_str())
            }
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", "Request body too large"),
            Self::BadWebSocket(why) => {
                body = format!("Bad WebSocket: {why}");
                (S::BAD_REQUEST, "BAD_WEBSOCKET", body.as_str())
            }
            Self::WebSocketVersion => {
                (S::BAD_REQUEST, "BAD_WEBSOCKET", "Bad WebSocket: the only version spoken here is 13")
            }
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "Request body came too slowly"),
            Self::RequestAborted => (S::BAD_REQUEST, "BAD_BODY", "Request body broke off"),
            Self::ResponseBlocked => {
                (S::BAD_GATEWAY, "AI_RESPONSE_BLOCKED", "AI response contains potentially harmful content")
            }
            Self::ResponseTooLong => (S::BAD_GATEWAY, "AI_RESPONSE_TOO_LONG", "AI response too long"),
            Self::UnscannableResponse(_) => (S::BAD_GATEWAY, "UNSCANNABLE_RESPONSE", "AI response cannot be inspected"),
            Self::VerifierUnavailable(_) => {
                (S::SERVICE_UNAVAILABLE, "VERIFIER_UNAVAILABLE", "API keys cannot be verified at the moment")
            }
            Self::UpstreamUnreachable(_) => (S::SERVICE_UNAVAILABLE, "UPSTREAM_UNREACHABLE", "Service unreachable"),
            Self::UpstreamTimeout => (S::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT", "Service timed out"),
            Self::UpstreamBroken(_) => (S::BAD_GATEWAY, "UPSTREAM_BROKEN", "Service answer was broken"),
            Self::DeadlineExceeded => (S::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", "The deadline of the call is over"),
            Self::UpstreamUnavailable(_) => {
                (S::SERVICE_UNAVAILABLE, "UPSTREAM_UNAVAILABLE", "Service is failing and left alone for a while")
            }
            Self::Overloaded(_) => (S::SERVICE_UNAVAILABLE, "OVERLOADED", "Overloaded"),
        };
        Row { status, code, message: message.to_owned() }
    }

    /// Whose fault it is.
    fn fault(&self) -> Fault {
        match self {
            Self::ResponseBlocked
            | Self::ResponseTooLong
            | Self::UnscannableResponse(_)
            | Self::UpstreamUnreachable(_)
            | Self::UpstreamTimeout
            | Self::UpstreamBroken(_)
            | Self::UpstreamUnavailable(_) => Fault::Upstream,
            Self::VerifierUnavailable(_) | Self::Overloaded(_) => Fault::Keyward,
            _ => Fault::Client,
        }
    }

    /// What a retry can change.
    fn retry(&self) -> Retry {
        match self {
            Self::RateLimited(refused) => Retry::After(refused.retry_after),
            Self::VerifierUnavailable(error) => Retry::After(error.wait().unwrap_or(UNAVAILABLE_RETRY)),
            // Nothing was sent: the service is not up yet, or already gone.
            Self::Overloaded(_) | Self::UpstreamUnreachable(_) => Retry::After(UNAVAILABLE_RETRY),
            Self::UpstreamUnavailable(wait) => Retry::After(*wait),
            Self::RequestTimeout
            | Self::RequestAborted
            | Self::UpstreamTimeout
            | Self::DeadlineExceeded
            | Self::UpstreamBroken(_) => Retry::Maybe,
            _ => Retry::Never,
        }
    }

    /// The code as metrics and records know it.
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// What a client is told.
    pub fn message(&self) -> String {
        self.row().message
    }

    /// Writes the refusal to the log: the client's doing quietly, ours and the service's as errors. What the client
    /// is not told (causes, addresses) stands here.
    pub fn log(&self, request_id: &str, route: &str) {
        let Row { status, code, .. } = self.row();
        let status = status.as_u16();
        let cause = self.cause();
        match self.fault() {
            Fault::Client => tracing::debug!(request_id, route, status, code, cause, "request refused"),
            Fault::Upstream | Fault::Keyward => {
                tracing::error!(request_id, route, status, code, cause, "AI request failed");
            }
        }
    }

    fn cause(&self) -> String {
        match self {
            Self::UnscannableResponse(why) | Self::Overloaded(why) => (*why).to_owned(),
            Self::VerifierUnavailable(error) => error.to_string(),
            Self::UpstreamBroken(why) => why.clone(),
            Self::UpstreamUnreachable(error) => error.to_string(),
            _ => String::new(),
        }
    }

    /// The response, in the shape of `format`.
    pub fn response(&self, format: ErrorFormat, request_id: &str) -> Response<Bytes> {
        let row = self.row();
        let mut response = Response::new(Bytes::from(shape::body(&row, format, request_id)));
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.retry() {
            Retry::Never => set(headers, HeaderName::from_static("x-should-retry"), "false"),
            Retry::Maybe => {}
            Retry::After(wait) => set(headers, header::RETRY_AFTER, &quota::whole_seconds(wait).to_string()),
        }
        self.own_headers(headers);
        response
    }

    /// The refusal as the end of a call of gRPC, which has its own status in a response that went well as far as HTTP
    /// is concerned.
    pub fn end_of_call(&self) -> HeaderMap {
        let row = self.row();
        let mut end = grpc::end(grpc::status(row.status, row.code), &row.message);
        let pushback = match self.retry() {
            // A client that has a policy to retry is told not to.
            Retry::Never => "-1".to_owned(),
            Retry::Maybe => return end,
            Retry::After(wait) => wait.as_millis().to_string(),
        };
        set(&mut end, HeaderName::from_static("grpc-retry-pushback-ms"), &pushback);
        end
    }

    /// The refusal as a message of a WebSocket, in the shape of `format`: for OpenAI, an event of the Realtime API.
    pub fn event(&self, format: ErrorFormat, request_id: &str) -> Vec<u8> {
        shape::event(&self.row(), format, request_id)
    }

    fn own_headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::MissingKey => set(headers, header::WWW_AUTHENTICATE, "Bearer"),
            Self::InvalidKey => set(headers, header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#),
            Self::InsufficientScope(missing) => {
                let challenge = format!(r#"Bearer error="insufficient_scope", scope="{}""#, missing.scope_list());
                set(headers, header::WWW_AUTHENTICATE, &challenge);
            }
            Self::MethodNotAllowed(allow) => set(headers, header::ALLOW, allow),
            // RFC 6455 §4.4.
            Self::WebSocketVersion => set(headers, header::SEC_WEBSOCKET_VERSION, "13"),
            Self::RateLimited(refused) => quota::stamp_refused(headers, refused),
            _ => {}
        }
    }
}

/// Scopes and methods are checked when the policy is compiled, so every value here is a valid one.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

impl From<TurnedAway> for Refusal {
    fn from(why: TurnedAway) -> Self {
        match why {
            TurnedAway::Address => Self::AddressNotAllowed,
            TurnedAway::Certificate => Self::CertificateNotAllowed,
        }
    }
}

impl From<crate::auth::AuthError> for Refusal {
    fn from(error: crate::auth::AuthError) -> Self {
        use crate::auth::AuthError;
        match error {
            AuthError::Missing => Self::MissingKey,
            AuthError::Ambiguous => Self::AmbiguousKey,
            AuthError::Invalid => Self::InvalidKey,
            AuthError::TooManyFailures(refused) => Self::RateLimited(refused),
            AuthError::Unavailable(error) => Self::VerifierUnavailable(error),
        }
    }
}

impl From<crate::auth::Denied> for Refusal {
    fn from(denied: crate::auth::Denied) -> Self {
        use crate::auth::Denied;
        match denied {
            Denied::KeyRequired => Self::MissingKey,
            Denied::NoOwner => Self::TrustedContextRequired,
            Denied::Scope(missing) => Self::InsufficientScope(missing),
        }
    }
}

impl From<crate::upstream::SendError> for Refusal {
    fn from(error: crate::upstream::SendError) -> Self {
        use crate::upstream::{SendError, Turned};
        match error {
            SendError::Unreachable(error) => Self::UpstreamUnreachable(error),
            SendError::Timeout => Self::UpstreamTimeout,
            SendError::Broken(error) => Self::UpstreamBroken(error.to_string()),
            SendError::Unwanted(what) => Self::UpstreamBroken(what.to_owned()),
            SendError::Request(fault) => fault.into(),
            SendError::Overloaded(Turned::Away) => Self::Overloaded("the queue of the upstream is full"),
            SendError::Overloaded(Turned::Late) => Self::Overloaded("the upstream had no room in time"),
            SendError::Unavailable(wait) => Self::UpstreamUnavailable(wait),
        }
    }
}

impl From<crate::upstream::BodyFault> for Refusal {
    fn from(fault: crate::upstream::BodyFault) -> Self {
        use crate::upstream::BodyFault;
        match fault {
            BodyFault::TooLarge => Self::BodyTooLarge,
            BodyFault::TooSlow => Self::RequestTimeout,
            BodyFault::Aborted => Self::RequestAborted,
            BodyFault::Context(error) => Self::BadBody(error.to_string()),
            BodyFault::Inspected(stop) => stop.into(),
            BodyFault::NoMemory => Self::Overloaded("the memory budget for held bodies is used up"),
        }
    }
}

impl From<crate::scan::PassageStop> for Refusal {
    fn from(stop: crate::scan::PassageStop) -> Self {
        use crate::scan::PassageStop;
        match stop {
            PassageStop::Blocked => Self::InputBlocked,
            PassageStop::TooLong => Self::InputTooLong,
            PassageStop::Malformed(error) => Self::BadBody(error.to_string()),
            PassageStop::Unscannable(why) => Self::UnscannableBody(why),
        }
    }
}
