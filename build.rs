//! With the feature `cuda`, makes the PTX of `kernels/*.cu` with nvcc, by the crate that makes candle's own, and `kernels.rs`,
//! which lists it. Without the feature it makes nothing: the tests run the same sources on the CPU, compiled by a C++ compiler.
#![allow(clippy::print_stdout)] // cargo reads it

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(error) = cuda::make_ptx() {
        println!("cargo::error={}", error.to_string().trim_end());
        std::process::exit(1); // so that cargo shows what nvcc said
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::error::Error;
    use std::path::{Path, PathBuf};

    use cudaforge::{CudaToolkit, KernelBuilder, SourceSelector};

    const SOURCES: &str = "kernels";

    pub fn make_ptx() -> Result<(), Box<dyn Error>> {
        println!("cargo::rerun-if-env-changed=NVCC");
        println!("cargo::rerun-if-env-changed=CUDA_HOME");
        CudaToolkit::detect().map_err(|_| {
            "nvcc not found, and the feature cuda needs it: install NVIDIA's CUDA toolkit and set NVCC or CUDA_HOME, or run \
             scripts/cuda-toolkit.sh DIR and then . DIR/env.sh"
        })?;
        KernelBuilder::new()
            .source_dir(SOURCES)
            .watch([SOURCES]) // headers, and files that are new
            .compute_cap(80) // Ampere, and with it all that came later, whatever CUDA_COMPUTE_CAP says
            .no_incremental() // its cache does not know which nvcc made a file
            .build_ptx()?;
        let out = PathBuf::from(std::env::var("OUT_DIR")?);
        let mut list = String::from("&[\n");
        for source in SourceSelector::new().add_directory(SOURCES).resolve()? {
            let name = source.file_stem().ok_or("a source has no name")?.to_string_lossy();
            lower_version(&out.join(format!("{name}.ptx")))?;
            list += &format!("(\"{name}\", include_str!(\"{name}.ptx\")),\n");
        }
        Ok(std::fs::write(out.join("kernels.rs"), list + "]\n")?)
    }

    /// nvcc writes the newest version that it knows, which older drivers refuse. 7.8 has all that the kernels use, and drivers
    /// from CUDA 11.8 on take it.
    fn lower_version(ptx: &Path) -> std::io::Result<()> {
        let text = std::fs::read_to_string(ptx)?;
        let lines = text.lines().map(|line| if line.starts_with(".version ") { ".version 7.8" } else { line });
        std::fs::write(ptx, lines.flat_map(|line| [line, "\n"]).collect::<String>())
    }
}
