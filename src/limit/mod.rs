//! Rate limits.
//!
//! Enters: which limits apply to a request and whose buckets they are. Leaves: an [`Admission`], or the limit that
//! refused and how long it will. Several limits are all or nothing. Buckets live in this process, outlive a reload,
//! and their number is bounded.

mod bucket;
mod keyed;

pub use bucket::{Bucket, Granted};
pub use keyed::{Admission, BucketOwner, Charge, Limiter, Quota, Refused};
