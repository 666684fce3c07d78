//! The committed code must be what the `.proto` files give. `AUTOLRS_BLESS=1 cargo test -p autolrs-proto` writes it anew.

use std::{fs, path::Path};

const FILES: [&str; 9] = [
    "directive",
    "error_reason",
    "job",
    "job_service",
    "report",
    "schedule",
    "stage",
    "store_service",
    "trainer_service",
];

#[test]
fn generated_code_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protos: Vec<_> = FILES.iter().map(|f| root.join(format!("autolrs/v1/{f}.proto"))).collect();
    let descriptors = protox::compile(&protos, [root]).expect("the .proto files compile");
    let out = tempfile::tempdir().expect("a temporary folder");
    tonic_prost_build::configure()
        .out_dir(out.path())
        .file_descriptor_set_path(out.path().join("descriptors.bin"))
        .skip_protoc_run()
        .compile_fds(descriptors.clone())
        .expect("code is generated");
    fs::write(out.path().join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))
        .expect("written");
    for name in ["autolrs.v1.rs", "descriptors.bin"] {
        let fresh = fs::read(out.path().join(name)).expect("generated");
        let committed = root.join("src/generated").join(name);
        if std::env::var_os("AUTOLRS_BLESS").is_some() {
            fs::write(&committed, &fresh).expect("writable");
        }
        assert!(
            fs::read(&committed).ok() == Some(fresh),
            "{name} is stale: run `AUTOLRS_BLESS=1 cargo test -p autolrs-proto` and commit the result"
        );
    }
}

#[test]
fn every_proto_file_is_generated() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("autolrs/v1");
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| {
            entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}
