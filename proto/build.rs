//! Compiles the protocol buffers with a compiler in Rust, so that a build needs no `protoc`.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const FILES: [&str; 6] = [
    "rfs/v1/common.proto",
    "rfs/v1/host_service.proto",
    "rfs/v1/checkpoint_service.proto",
    "rfs/v1/rollback_service.proto",
    "rfs/agentlink/v1/agent_link.proto",
    "rfs/agent/v1/local_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=rfs");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    // A message knows its full name, so that any can be written as JSON by its descriptor.
    config.enable_type_names();
    // Our link makes the channels; without tonic's own, a method may be called `Connect`.
    tonic_prost_build::configure().build_transport(false).compile_fds_with_config(descriptors, config)?;
    Ok(())
}
