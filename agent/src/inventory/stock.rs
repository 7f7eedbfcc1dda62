//! The facts of the stock inventory scripts, read from the kernel's files.

use std::path::Path;

use ambidex_platform::fs;

use super::{Facts, Values, network};
use crate::config::{Config, Roots};

const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn collect(config: &Config, facts: &Facts) -> Values {
    let mut values = Values::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            values.insert(key.to_owned(), vec![value]);
        }
    };
    add("device_type", facts.device_type.clone());
    for (key, value) in &facts.provides {
        add(key, Some(value.clone()));
    }
    add("hostname", text("/proc/sys/kernel/hostname"));
    add("kernel", text("/proc/version"));
    add("os", text("/etc/os-release").and_then(|t| os(&t)));
    add(
        "cpu_model",
        text("/proc/cpuinfo").and_then(|t| cpu_model(&t)),
    );
    add(
        "mem_total_kB",
        text("/proc/meminfo")
            .and_then(|t| field(&t, "MemTotal"))
            .map(|t| t.trim_end_matches(" kB").to_owned()),
    );
    add(
        "rootfs_type",
        text("/proc/mounts").and_then(|t| rootfs_type(&t)),
    );
    let modules = update_modules(&config.roots);
    if !modules.is_empty() {
        values.insert("update_modules".to_owned(), modules);
    }
    values.extend(network::collect());
    values
}

fn text(path: &str) -> Option<String> {
    let bytes = fs::read_if_present(Path::new(path), FILE_BYTES_MAX).ok()??;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn cpu_model(text: &str) -> Option<String> {
    // x86; ARM before and after device trees
    ["model name", "Model", "Hardware", "Processor"]
        .iter()
        .find_map(|name| field(text, name))
}

fn os(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        line.strip_prefix("PRETTY_NAME=")
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
    })
}

fn rootfs_type(mounts: &str) -> Option<String> {
    // the last mount on / is the one that is seen
    mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (point == "/").then(|| kind.to_owned())
    })
}

fn update_modules(roots: &Roots) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(roots.modules()) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| fs::is_executable_file(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        assert_eq!(
            field("MemTotal:     123 kB\nMemFree: 1 kB", "MemTotal").as_deref(),
            Some("123 kB")
        );
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Fast One\n").as_deref(),
            Some("Fast One")
        );
        assert_eq!(
            os("ID=x\nPRETTY_NAME=\"Some Linux 1\"\n").as_deref(),
            Some("Some Linux 1")
        );
        assert_eq!(
            rootfs_type("rootfs / rootfs rw 0 0\n/dev/a /data ext4 rw\n/dev/b / ext4 rw")
                .as_deref(),
            Some("ext4")
        );
    }
}
