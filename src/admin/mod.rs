//! What kubelet, Prometheus and the operator ask.
//!
//! Enters: plain requests on listeners of their own. Leaves: liveness, readiness and metrics. The health listener
//! answers these to anyone and does nothing else, readiness also says whether the service can be reached past the proxy; the admin listener also forgets cached keys, and wants its token for
//! everything, loopback included, because the guarded service shares the Pod. Nothing here touches a request that is being proxied.

mod exposure;
mod readiness;
mod surface;

pub use exposure::{Exposed, watch as watch_exposure};
pub use readiness::Readiness;
pub use surface::{Access, Answers, serve};
