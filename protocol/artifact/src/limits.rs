//! How much an artifact may ask of its reader. Every number has its reason beside it.

/// Unit in which payload bytes are decoded, hashed and handed out: two blocks of the slowest
/// codec's window fit the second-level cache of the boards we know, and system calls are rare.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// Longest manifest: 8,000 payload files with names of the longest permitted length.
pub const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;
/// Longest `manifest.sig`: base64 of an RSA signature of 8192 bits is 1368 characters.
pub const SIGNATURE_BYTES_MAX: u64 = 4096;
/// Longest `version` member. The written form has 31 bytes; hand-made ones may be indented.
pub const VERSION_BYTES_MAX: u64 = 4096;
/// Longest header member as stored (compressed). It is held in memory until its digest is known.
pub const HEADER_STORED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Longest header after decompression: what all scripts and descriptions may occupy in memory.
pub const HEADER_UNPACKED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Longest `header-info` and `type-info`, each: 200 device types of 256 bytes, with room.
pub const INFO_BYTES_MAX: u64 = 256 * 1024;
/// Longest `meta-data`: a document for an update module, not a payload.
pub const META_DATA_BYTES_MAX: u64 = 1024 * 1024;
/// Longest state script. Scripts are small programs; some are statically linked binaries.
pub const SCRIPT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most state scripts: 6 states x 3 actions leave room for 14 scripts each.
pub const SCRIPT_COUNT_MAX: usize = 256;
/// Most payload files: what a manifest of the longest length can list.
pub const PAYLOAD_FILES_MAX: usize = 8192;
/// Most device types in one artifact (the server's model stops at 200).
pub const DEVICE_TYPES_MAX: usize = 200;
/// Longest artifact name and group, in bytes (artifact-format reference, section 5).
pub const ARTIFACT_NAME_BYTES_MAX: usize = 256;
/// Longest payload file name, in characters: `data/0000/` and 90 make the 100 of a manifest name.
pub const PAYLOAD_NAME_CHARS_MAX: usize = 90;
/// Longest name in the manifest, in characters.
pub const MANIFEST_NAME_CHARS_MAX: usize = 100;
/// Longest file name that Linux file systems store, in bytes: scripts and update modules are files.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Longest extended tar header (PAX records of one entry).
pub const PAX_BYTES_MAX: u64 = 64 * 1024;
/// Most zero padding after the end of an archive; `tar` pads to 10,240 bytes at most.
pub const PADDING_BYTES_MAX: u64 = 1024 * 1024;
/// Largest zstd window, as a power of two: 128 MiB, the largest that `zstd` itself reads without
/// an option. The reference tool's best level asks for 32 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Most memory for the xz decoder: the reference tool always uses a dictionary of 64 MiB.
pub const XZ_MEMORY_KIB_MAX: u32 = 66 * 1024;

/// Limits of one reader. `Default` holds the constants of this module; a small device may tighten
/// what decides over its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of `manifest` and of `manifest-augment`, each.
    pub manifest_bytes_max: u64,
    /// Bytes of the header member as stored.
    pub header_stored_bytes_max: u64,
    /// Bytes of all header entries together, unpacked.
    pub header_unpacked_bytes_max: u64,
    /// Bytes of `meta-data`.
    pub meta_data_bytes_max: u64,
    /// Bytes of one state script.
    pub script_bytes_max: u64,
    /// Number of state scripts.
    pub script_count_max: usize,
    /// Number of payload files.
    pub payload_files_max: usize,
    /// Bytes of one payload file, unpacked. Unlimited by default: the installer knows its slot.
    pub payload_file_bytes_max: u64,
    /// Base-2 logarithm of the largest zstd window that is decoded, 10 to 31.
    pub zstd_window_log_max: u32,
    /// KiB of memory that the xz decoder may take.
    pub xz_memory_kib_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes_max: MANIFEST_BYTES_MAX,
            header_stored_bytes_max: HEADER_STORED_BYTES_MAX,
            header_unpacked_bytes_max: HEADER_UNPACKED_BYTES_MAX,
            meta_data_bytes_max: META_DATA_BYTES_MAX,
            script_bytes_max: SCRIPT_BYTES_MAX,
            script_count_max: SCRIPT_COUNT_MAX,
            payload_files_max: PAYLOAD_FILES_MAX,
            payload_file_bytes_max: u64::MAX,
            zstd_window_log_max: ZSTD_WINDOW_LOG_MAX,
            xz_memory_kib_max: XZ_MEMORY_KIB_MAX,
        }
    }
}
