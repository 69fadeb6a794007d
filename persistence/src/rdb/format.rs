//! Constants of the format, as in `rdb.h` of Redis 7.0 (and 7.2 where it says so).

/// The first bytes of every RDB; four decimal digits of version follow.
pub const MAGIC: &[u8; 5] = b"REDIS";
/// The version written: the one of Redis 7.0.
pub const VERSION_WRITTEN: u32 = 10;
/// The newest version read: that of Redis 8.6. Since 12, that of Redis 7.4, there are new types and opcodes only, which are refused by themselves.
pub const VERSION_NEWEST: u32 = 13;
/// The first bytes of an RDB in Valkey's own dialect; three decimal digits of version follow. It is told from Redis' by its version
/// alone behind that, also in the footer of a single value.
pub const MAGIC_VALKEY: &[u8; 6] = b"VALKEY";
/// Versions of Valkey's dialect that are read: the one of Valkey 9. Types up to [`value_type::STREAM_LISTPACKS_3`] mean the same in both.
pub const VERSION_VALKEY: std::ops::RangeInclusive<u32> = 80..=80;
/// The first version that ends in a checksum.
pub const VERSION_CHECKSUM: u32 = 5;

/// Bytes that say what follows.
pub mod opcode {
    /// A cluster's slots on their way to another node, in Valkey's dialect (Valkey 9).
    pub const VALKEY_SLOT_IMPORT: u8 = 243;
    /// Numbers of keys of a cluster's slot: a hint, as [`RESIZEDB`] (Redis 7.4).
    pub const SLOT_INFO: u8 = 244;
    /// A function library (Redis 7.0).
    pub const FUNCTION2: u8 = 245;
    /// A function library of a release candidate, refused by Redis itself.
    pub const FUNCTION_PRE_GA: u8 = 246;
    /// Data a module keeps beside the keys.
    pub const MODULE_AUX: u8 = 247;
    /// Seconds since the next key was used.
    pub const IDLE: u8 = 248;
    /// LFU counter of the next key, one byte.
    pub const FREQ: u8 = 249;
    /// A named fact about the file.
    pub const AUX: u8 = 250;
    /// Numbers of keys, and of those that expire, in the database selected.
    pub const RESIZEDB: u8 = 251;
    /// Expiry of the next key in milliseconds, eight bytes.
    pub const EXPIRETIME_MS: u8 = 252;
    /// Expiry of the next key in seconds, four bytes.
    pub const EXPIRETIME: u8 = 253;
    /// The database of what follows.
    pub const SELECTDB: u8 = 254;
    /// The end; a checksum follows.
    pub const EOF: u8 = 255;
}

/// Bytes that say how a key's value is encoded.
pub mod value_type {
    /// A string.
    pub const STRING: u8 = 0;
    /// A list: count, then strings.
    pub const LIST: u8 = 1;
    /// A set: count, then strings.
    pub const SET: u8 = 2;
    /// A sorted set with scores in decimal.
    pub const ZSET: u8 = 3;
    /// A hash: count, then pairs of strings.
    pub const HASH: u8 = 4;
    /// A sorted set with scores as eight bytes.
    pub const ZSET_2: u8 = 5;
    /// A module's value, before Redis 4.0 was released.
    pub const MODULE_PRE_GA: u8 = 6;
    /// A module's value.
    pub const MODULE_2: u8 = 7;
    /// A hash in a zipmap (before Redis 2.6).
    pub const HASH_ZIPMAP: u8 = 9;
    /// A list in a ziplist.
    pub const LIST_ZIPLIST: u8 = 10;
    /// A set of integers.
    pub const SET_INTSET: u8 = 11;
    /// A sorted set in a ziplist.
    pub const ZSET_ZIPLIST: u8 = 12;
    /// A hash in a ziplist.
    pub const HASH_ZIPLIST: u8 = 13;
    /// A list of ziplists.
    pub const LIST_QUICKLIST: u8 = 14;
    /// A stream.
    pub const STREAM_LISTPACKS: u8 = 15;
    /// A hash in a listpack.
    pub const HASH_LISTPACK: u8 = 16;
    /// A sorted set in a listpack.
    pub const ZSET_LISTPACK: u8 = 17;
    /// A list of listpacks and of single large elements.
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// A stream with the fields of Redis 7.0.
    pub const STREAM_LISTPACKS_2: u8 = 19;
    /// A set in a listpack (Redis 7.2).
    pub const SET_LISTPACK: u8 = 20;
    /// A stream with the fields of Redis 7.2.
    pub const STREAM_LISTPACKS_3: u8 = 21;
    /// A hash whose fields expire, in Valkey's dialect (Valkey 9).
    pub const VALKEY_HASH_2: u8 = 22;
    /// A hash whose fields expire, of a release candidate of Redis 7.4.
    pub const HASH_METADATA_PRE_GA: u8 = 22;
    /// The same, small.
    pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
    /// A hash whose fields expire (Redis 7.4).
    pub const HASH_METADATA: u8 = 24;
    /// The same, small.
    pub const HASH_LISTPACK_EX: u8 = 25;
    /// The highest there is.
    pub const LAST: u8 = HASH_LISTPACK_EX;
}

/// Containers of a node of [`value_type::LIST_QUICKLIST_2`].
pub mod quicklist_node {
    /// One large element as it is.
    pub const PLAIN: u64 = 1;
    /// A listpack.
    pub const PACKED: u64 = 2;
}

/// Items of a module's data, each a length-encoded number before the item itself.
pub mod module_item {
    /// No more items.
    pub const EOF: u64 = 0;
    /// A signed number, as a length.
    pub const SINT: u64 = 1;
    /// An unsigned number, as a length.
    pub const UINT: u64 = 2;
    /// Four bytes.
    pub const FLOAT: u64 = 3;
    /// Eight bytes.
    pub const DOUBLE: u64 = 4;
    /// A string.
    pub const STRING: u64 = 5;
}

/// Length bytes of a score in decimal that stand for a value.
pub mod text_score {
    /// Not a number.
    pub const NAN: u8 = 253;
    /// Positive infinity.
    pub const INFINITY: u8 = 254;
    /// Negative infinity.
    pub const NEG_INFINITY: u8 = 255;
}

/// Strings shorter than this are never compressed (`rdbSaveRawString`).
pub const COMPRESS_MIN: usize = 21;
