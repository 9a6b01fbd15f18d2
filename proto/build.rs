//! Compiles `mesh/v1/*.proto` with protox (no protoc to install) into prost types and their canonical JSON.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=mesh");
    let files: Vec<PathBuf> =
        std::fs::read_dir("mesh/v1")?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    let descriptors = protox::compile(&files, ["."])?;
    let encoded = descriptors.encode_to_vec();
    prost_build::Config::new()
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .btree_map(["."])
        .compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .ignore_unknown_fields()
        .btree_map(["."])
        .build(&[".meshwork.v1"])?;
    Ok(())
}
