//! A payload of 1 GiB is read in little memory.
//!
//! Linux only: the figure is the kernel's peak of resident memory. This file has one test, so that
//! nothing else runs in its process.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::fs;
use std::io::{Cursor, Read};

use ambidex_artifact::{
    ArtifactSpec, Compression, CompressionChoice, Payload, PayloadSource, ReadOptions, Reader,
    Verification, write,
};

/// Peak allowed by the project's bar: 16 MiB.
const PEAK_KIB_MAX: u64 = 16 * 1024;

/// Zeros with a mark in every 64 KiB, so that the codecs have real but little work.
struct Image {
    rest: u64,
}

impl Read for Image {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = usize::try_from(self.rest).unwrap().min(out.len());
        out[..count].fill(0);
        if let Some(first) = out[..count].first_mut() {
            *first = (self.rest >> 16) as u8;
        }
        self.rest -= count as u64;
        Ok(count)
    }
}

fn peak_rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn one_gibibyte_is_read_in_less_than_16_mib() {
    let size = 1 << 30;
    let spec = ArtifactSpec {
        compression: CompressionChoice {
            compression: Compression::Zstd,
            level: Some(3),
        },
        ..ArtifactSpec::new(Payload::RootfsImage, "large", vec!["qemu".into()])
    };
    let source = PayloadSource {
        name: "image".into(),
        mode: 0o644,
        mtime_s: 0,
        open: Box::new(|| Ok(Box::new(Image { rest: size }))),
    };
    // Zeros compress to a few hundred KiB: the artifact itself fits in memory, its payload would not.
    let mut artifact = Cursor::new(Vec::new());
    write(&spec, &[source], None, &mut artifact, &mut |_| {}).unwrap();
    assert!(artifact.get_ref().len() < 1 << 20);

    artifact.set_position(0);
    let mut reader = Reader::open(artifact, &ReadOptions::device(Verification::Ignore)).unwrap();
    let mut read = 0;
    while let Some(mut file) = reader.next_file().unwrap() {
        while let Some(chunk) = file.chunk().unwrap() {
            read += chunk.len() as u64;
        }
    }
    reader.finish().unwrap();
    assert_eq!(read, size);
    let peak = peak_rss_kib();
    assert!(
        peak < PEAK_KIB_MAX,
        "peak of {peak} KiB, {PEAK_KIB_MAX} KiB is the bar"
    );
}
