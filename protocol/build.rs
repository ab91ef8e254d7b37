//! Compiles `proto/` with protox, so that no `protoc` is needed.

use std::path::{Path, PathBuf};

use tonic_prost_build::{Config, FileDescriptorSet, configure};

const FILES: [&str; 3] =
    ["unimodel/v1/ranking.proto", "unimodel/control/v1/control.proto", "inference/grpc_predict_v2.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let files = compiler.file_descriptor_set();

    // For reflection and the compatibility test: without comments.
    compiler.include_source_info(false);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    configure()
        // `src/rank.rs` has these by hand: their ids are many and short, and lie in one buffer.
        .extern_path(".unimodel.v1.Candidates", "crate::rank::Candidates")
        .extern_path(".unimodel.v1.RankResponse", "crate::rank::RankResponse")
        // Tensor bytes stay in the buffer that they arrived in.
        .bytes(".inference")
        .codec_path("crate::codec::Codec")
        .compile_fds(files.clone())?;
    plain_messages(files, &out)
}

/// The same messages with nothing by hand, which tests compare with.
fn plain_messages(files: FileDescriptorSet, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let plain = out.join("plain");
    std::fs::create_dir_all(&plain)?;
    let ranking = FileDescriptorSet {
        file: files.file.into_iter().filter(|f| ["google.protobuf", "unimodel.v1"].contains(&f.package())).collect(),
    };
    Config::new().out_dir(plain).compile_fds(ranking)?;
    Ok(())
}
