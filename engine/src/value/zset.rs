//! (first cut: the large encoding only)
use crate::table::Table;

/// A zset.
#[derive(Clone, Debug, Default)]
pub struct ZSet {
    table: Table,
}

impl ZSet {
    /// An empty zset.
    pub fn new() -> ZSet {
        ZSet::default()
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.table.len()
    }
    /// True where there is no element.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
    /// The elements' table, in the large encoding.
    pub fn table(&self) -> Option<&Table> {
        Some(&self.table)
    }
    /// The elements' table, in the large encoding.
    pub fn table_mut(&mut self) -> Option<&mut Table> {
        Some(&mut self.table)
    }
    /// A rough size at no cost.
    pub fn quick_size(&self) -> usize {
        self.table.len() * 64
    }
}
