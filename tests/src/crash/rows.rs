//! The rows, in the order of the failure table.

mod delivery;
mod ends;
mod reception;
mod store;

use super::Row;

pub(super) const ROWS: [&[Row]; 4] = [reception::ROWS, delivery::ROWS, ends::ROWS, store::ROWS];
