//! Artifacts whose checksums are right and whose content is not.

use sha2::{Digest as _, Sha256};

use crate::input::{Input, piece};

const BLOCK: usize = 512;
/// Where the header of an archive has its checksum.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The same bytes, with the checksum of every archive header of the outer archive corrected, and in the manifest the
/// digests of `version` and of the header.
pub fn repaired(artifact: &[u8]) -> Vec<u8> {
    let mut bytes = artifact.to_vec();
    let mut members = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        seal(header);
        let name: Vec<u8> = header[..100]
            .iter()
            .copied()
            .take_while(|b| *b != 0)
            .collect();
        let digits = String::from_utf8_lossy(&header[124..135]).into_owned();
        let size = usize::from_str_radix(digits.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        let content = at + BLOCK..(at + BLOCK).saturating_add(size).min(bytes.len());
        at = content.end.saturating_add(BLOCK - 1) / BLOCK * BLOCK;
        members.push((name, content));
    }
    let digests: Vec<(Vec<u8>, String)> = members
        .iter()
        .filter(|(name, _)| name == b"version" || name.starts_with(b"header"))
        .map(|(name, content)| {
            let digest = Sha256::digest(&bytes[content.clone()]);
            (name.clone(), hex::encode(digest))
        })
        .collect();
    for (_, content) in members
        .iter()
        .filter(|(name, _)| name.starts_with(b"manifest") && !name.ends_with(b".sig"))
    {
        for line in bytes[content.clone()].split_mut(|byte| *byte == b'\n') {
            for (name, digest) in &digests {
                if line.len() == 66 + name.len() && line.ends_with(name) {
                    line[..64].copy_from_slice(digest.as_bytes());
                }
            }
        }
    }
    bytes
}

/// Writes the checksum of an archive header into it.
fn seal(header: &mut [u8]) {
    header[CHECKSUM].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// An artifact without compression, of pieces of the input: `version`, `header-info`, a script's name and content,
/// `type-info`, `meta-data` (left out when empty), and then payload files, a name and a content each.
pub fn from_parts(mut input: Input<'_>) -> Vec<u8> {
    let version = input.piece();
    let header_info = input.piece();
    let script = (input.piece(), input.piece());
    let type_info = input.piece();
    let meta_data = input.piece();
    let mut files = Vec::new();
    while !input.is_empty() {
        files.push((input.piece(), input.piece()));
    }

    let mut header = Vec::new();
    entry(&mut header, b"header-info", header_info);
    if !script.0.is_empty() {
        entry(&mut header, &[b"scripts/", script.0].concat(), script.1);
    }
    entry(&mut header, b"headers/0000/type-info", type_info);
    if !meta_data.is_empty() {
        entry(&mut header, b"headers/0000/meta-data", meta_data);
    }
    end(&mut header);
    let mut data = Vec::new();
    let mut manifest = Vec::new();
    let mut list = |name: &[u8], content: &[u8]| {
        manifest.extend_from_slice(hex::encode(Sha256::digest(content)).as_bytes());
        manifest.extend_from_slice(b"  ");
        manifest.extend_from_slice(name);
        manifest.push(b'\n');
    };
    for (name, content) in files {
        entry(&mut data, name, content);
        list(&[b"data/0000/", name].concat(), content);
    }
    end(&mut data);
    list(b"header.tar", &header);
    list(b"version", version);

    let mut artifact = Vec::new();
    entry(&mut artifact, b"version", version);
    entry(&mut artifact, b"manifest", &manifest);
    entry(&mut artifact, b"header.tar", &header);
    entry(&mut artifact, b"data/0000.tar", &data);
    end(&mut artifact);
    artifact
}

fn entry(archive: &mut Vec<u8>, name: &[u8], content: &[u8]) {
    let mut header = [0; BLOCK];
    let length = name.len().min(100);
    header[..length].copy_from_slice(&name[..length]);
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    archive.extend_from_slice(&header);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

fn end(archive: &mut Vec<u8>) {
    archive.resize(archive.len() + 2 * BLOCK, 0);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let version = br#"{"format":"mender","version":3}"#;
    let info = br#"{"payloads":[{"type":"app"}],"artifact_provides":{"artifact_name":"app-2","artifact_group":"g"},"artifact_depends":{"device_type":["qemu"],"artifact_name":["app-1"]}}"#;
    let kind = br#"{"type":"app","artifact_provides":{"app.version":"2"},"artifact_depends":{"app.version":["1"]},"clears_artifact_provides":["app.*"]}"#;
    let parts = |parts: &[&[u8]]| parts.iter().flat_map(|part| piece(part)).collect();
    vec![
        parts(&[
            version,
            info,
            b"ArtifactCommit_Leave_10_note",
            b"#!/bin/sh\n",
            kind,
            br#"{"a":[1,{"b":null}]}"#,
            b"one",
            b"first",
            b"two",
            b"",
        ]),
        parts(&[
            version,
            br#"{"payloads":[{"type":null}],"artifact_provides":{"artifact_name":"first"},"artifact_depends":{"device_type":["qemu"]}}"#,
            b"",
            b"",
            br#"{"type":null,"artifact_provides":{"rootfs-image.version":"1"}}"#,
            b"",
        ]),
        parts(&[
            br#"{"format":"mender","version":2}"#,
            br#"{"artifact_name":"old","updates":[{"type":"rootfs-image"}],"device_types_compatible":["qemu"]}"#,
            b"",
            b"",
            br#"{"type":"rootfs-image"}"#,
            b"",
            b"image",
            b"0123456789",
        ]),
    ]
}
