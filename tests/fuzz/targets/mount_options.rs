#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| carob::fuzz::mount_options(data));
