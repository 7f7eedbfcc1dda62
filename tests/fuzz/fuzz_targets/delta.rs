#![no_main]

#[global_allocator]
static ALLOCATOR: ambidex_properties::allocation::Counting =
    ambidex_properties::allocation::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (ambidex_properties::target("delta").check)(bytes));
