//! The memory section of INFO.

use super::{Sources, Text};
use crate::ground::memory::Memory;
use crate::os;

/// A size as people read it, in Redis' form: `1.50M`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [(u64, char); 4] = [(1 << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    match UNITS.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    }
}

fn ratio(of: u64, to: u64) -> String {
    format!("{:.2}", if to == 0 { 0.0 } else { of as f64 / to as f64 })
}

fn percent(of: u64, to: u64) -> String {
    format!("{:.2}%", if to == 0 { 0.0 } else { of as f64 * 100.0 / to as f64 })
}

/// Bytes beside the data itself: buffers of clients and the backlog, and what the program needed to start.
pub(super) fn overhead(s: &Sources<'_>, m: &Memory) -> u64 {
    let (normal, replicas) = client_bytes(s);
    m.startup + s.engine.log().memory() as u64 + normal + replicas
}

/// Buffers of (ordinary clients, replicas). What is on its way to replicas is no buffer of theirs: it is the log's.
fn client_bytes(s: &Sources<'_>) -> (u64, u64) {
    s.clients.all().iter().fold((0, 0), |(normal, replicas), client| {
        let memory = client.memory() as u64;
        if client.is(crate::client::registry::kind::REPLICA) {
            (normal, replicas + memory)
        } else {
            (normal + memory, replicas)
        }
    })
}

pub(super) fn section(s: &Sources<'_>, t: &mut Text) {
    let m = Memory::now();
    let overhead = overhead(s, &m).min(m.used);
    let dataset = m.used - overhead;
    let net = m.used.saturating_sub(m.startup);
    let (normal, replicas) = client_bytes(s);
    // One log serves the backlog and every replica: what it holds beyond the backlog's size it holds for replicas.
    let log = s.engine.log().memory() as u64;
    let backlog = log.min(s.config.repl_backlog_size);
    let system = os::system_memory();
    let (lazy_pending, lazy_freed) = s.engine.lazy_freed();
    t.section("Memory");
    t.field("used_memory", m.used);
    t.field("used_memory_human", human(m.used));
    t.field("used_memory_rss", m.rss);
    t.field("used_memory_rss_human", human(m.rss));
    t.field("used_memory_peak", m.peak);
    t.field("used_memory_peak_human", human(m.peak));
    t.field("used_memory_peak_perc", percent(m.used, m.peak));
    t.field("used_memory_overhead", overhead);
    t.field("used_memory_startup", m.startup);
    t.field("used_memory_dataset", dataset);
    t.field("used_memory_dataset_perc", percent(dataset, net));
    t.field("allocator_allocated", m.used);
    t.field("allocator_active", m.active);
    t.field("allocator_resident", m.resident);
    t.field("total_system_memory", system);
    t.field("total_system_memory_human", human(system));
    // No scripts yet.
    t.field("used_memory_lua", 0);
    t.field("used_memory_vm_eval", 0);
    t.field("used_memory_lua_human", "0B");
    t.field("used_memory_scripts_eval", 0);
    t.field("number_of_cached_scripts", 0);
    t.field("number_of_functions", 0);
    t.field("number_of_libraries", 0);
    t.field("used_memory_vm_functions", 0);
    t.field("used_memory_vm_total", 0);
    t.field("used_memory_vm_total_human", "0B");
    t.field("used_memory_functions", 0);
    t.field("used_memory_scripts", 0);
    t.field("used_memory_scripts_human", "0B");
    t.field("maxmemory", s.config.maxmemory);
    t.field("maxmemory_human", human(s.config.maxmemory));
    t.field("maxmemory_policy", crate::config::word(s.config.maxmemory_policy));
    t.field("allocator_frag_ratio", ratio(m.active, m.used));
    t.field("allocator_frag_bytes", m.active.saturating_sub(m.used));
    t.field("allocator_rss_ratio", ratio(m.resident, m.active));
    t.field("allocator_rss_bytes", m.resident.saturating_sub(m.active));
    t.field("rss_overhead_ratio", ratio(m.rss, m.resident));
    t.field("rss_overhead_bytes", m.rss as i64 - m.resident as i64);
    t.field("mem_fragmentation_ratio", ratio(m.rss, m.used));
    t.field("mem_fragmentation_bytes", m.rss as i64 - m.used as i64);
    t.field("mem_not_counted_for_evict", log - backlog);
    t.field("mem_replication_backlog", backlog);
    t.field("mem_total_replication_buffers", log);
    t.field("mem_clients_slaves", replicas + log - backlog);
    t.field("mem_clients_normal", normal);
    t.field("mem_cluster_links", 0);
    t.field("mem_aof_buffer", 0);
    t.field("mem_allocator", "jemalloc");
    t.field("active_defrag_running", 0);
    t.field("lazyfree_pending_objects", lazy_pending);
    t.field("lazyfreed_objects", lazy_freed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_in_redis() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (965_856, "943.22K"),
            (25_276_502_016, "23.54G"),
            (6_705_152, "6.39M"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
