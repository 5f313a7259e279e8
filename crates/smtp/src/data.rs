//! Message content in the form of DATA (RFC 5321 §4.5.2): read under the strict line rule, kept as
//! it came, written dot-stuffed.

mod content;
mod reader;
mod stuffing;

pub(crate) use content::Scan;
pub use content::{Content, ContentError, Lines, RawSlices};
pub use reader::{DataLimits, DataReader, DataRefusal};
pub use stuffing::{DotStuffing, Unstuffing};
