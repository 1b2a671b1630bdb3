//! Runs kernels on the CPU: compiles `kernels/*.cu` with the system's C++ compiler and hands each launch to that program,
//! which is strict (kernels/host.cpp). Of the tests alone.

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use sha2::{Digest, Sha256};

use super::call::{Argument, Call, Launcher};
use crate::Result;

thread_local! {
    static IS_ON: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's ops take the kernels.
pub(super) fn is_on() -> bool {
    IS_ON.get()
}

/// Runs `f` as on a device that has kernels: its ops on CPU tensors take them, in this thread.
pub(crate) fn emulated<R>(f: impl FnOnce() -> R) -> R {
    let before = IS_ON.replace(true);
    let result = f();
    IS_ON.set(before);
    result
}

pub(super) struct Emulator;

impl Launcher for Emulator {
    fn launch(&self, call: &Call, device: &Device) -> Result<Vec<Tensor>> {
        let answer = run(&request(call)?);
        let mut rest = answer.as_slice();
        let mut take = |shape: &[usize], dtype: DType| {
            let bytes = shape.iter().product::<usize>() * dtype.size_in_bytes();
            let (here, later) = rest.split_at(bytes);
            rest = later;
            Tensor::from_raw_buffer(here, dtype, shape, device)
        };
        let mut outputs = Vec::new();
        for argument in &call.arguments {
            match argument {
                Argument::Update(tensor, _) => tensor.slice_set(&take(tensor.dims(), tensor.dtype())?, 0, 0)?,
                Argument::Output(shape, element) => outputs.push(take(shape.dims(), element.dtype(call.dtype))?),
                _ => {}
            }
        }
        assert!(rest.is_empty(), "{} bytes too many", rest.len());
        Ok(outputs)
    }

    fn multiply(&self, x: &Tensor, weight: &Tensor, onto: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?.matmul(&weight.to_dtype(DType::F32)?.t()?)?;
        let sum = match onto {
            Some(onto) => (wide + onto.to_dtype(DType::F32)?)?,
            None => wide,
        };
        Ok(sum.to_dtype(dtype)?)
    }
}

/// The launch as kernels/host.cpp reads it.
fn request(call: &Call) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let name = format!("{}/{}", call.module.source(call.dtype), call.entry()?);
    let header = [call.grid[0], call.grid[1], call.threads, 4 * call.shared_floats, call.arguments.len()];
    bytes.extend((name.len() as u32).to_le_bytes());
    bytes.extend(name.as_bytes());
    header.iter().for_each(|number| bytes.extend((*number as u32).to_le_bytes()));
    for argument in &call.arguments {
        let tensor = |kind: u8, dtype: DType, count: usize| {
            let code = match dtype {
                DType::F32 => 0,
                DType::F16 => 1,
                DType::BF16 => 2,
                _ => 3,
            };
            let length = (count * dtype.size_in_bytes()) as u64;
            [&[kind, code][..], &length.to_le_bytes()].concat()
        };
        match argument {
            Argument::Read(x, _) | Argument::Update(x, _) => {
                let kind = u8::from(matches!(argument, Argument::Update(..)));
                bytes.extend(tensor(kind, x.dtype(), x.elem_count()));
                bytes.extend(bytes_of(x)?);
            }
            Argument::Output(shape, element) => bytes.extend(tensor(2, element.dtype(call.dtype), shape.elem_count())),
            Argument::U32(number) => bytes.extend([&[3][..], &number.to_le_bytes()].concat()),
            Argument::F32(number) => bytes.extend([&[4][..], &number.to_le_bytes()].concat()),
        }
    }
    Ok(bytes)
}

fn bytes_of(x: &Tensor) -> Result<Vec<u8>> {
    let x = x.flatten_all()?;
    Ok(match x.dtype() {
        DType::F32 => x.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect(),
        DType::F16 => x.to_vec1::<f16>()?.into_iter().flat_map(f16::to_le_bytes).collect(),
        DType::BF16 => x.to_vec1::<bf16>()?.into_iter().flat_map(bf16::to_le_bytes).collect(),
        _ => x.to_vec1::<u32>()?.into_iter().flat_map(u32::to_le_bytes).collect(),
    })
}

fn run(request: &[u8]) -> Vec<u8> {
    let pipes = |command: &mut Command| command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = pipes(&mut Command::new(program())).unwrap();
    // The program reads everything before it writes anything; if it ends early, its message says more than the pipe does.
    let _ = child.stdin.take().unwrap().write_all(request);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Where the sources are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

/// The compiled kernels, beside this test's own binary: made anew when a source has changed.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut sources: Vec<PathBuf> = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
        sources.sort();
        let mut hash = Sha256::new();
        sources.iter().for_each(|source| hash.update(std::fs::read(source).unwrap()));
        let name = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        let beside = std::env::current_exe().unwrap();
        let program = beside.with_file_name(format!("kernels-{name}"));
        if !program.exists() {
            sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu" || extension == "cpp"));
            compile(&sources, &program);
        }
        program
    })
}

fn compile(sources: &[PathBuf], program: &Path) {
    let objects = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let start = |command: &mut Command| {
        command.spawn().unwrap_or_else(|error| panic!("the kernels' tests need a C++ compiler ({compiler}): {error}"))
    };
    // -U_FORTIFY_SOURCE: glibc's checked longjmp takes a change of stacks for an error.
    let flags = ["-std=c++17", "-O1", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-Wno-unknown-pragmas", "-x", "c++", "-c"];
    let object = |source: &PathBuf| objects.path().join(source.file_name().unwrap()).with_extension("o");
    let compiled = |source: &PathBuf| start(Command::new(&compiler).args(flags).arg(source).arg("-o").arg(object(source)));
    let running: Vec<_> = sources.iter().map(compiled).collect();
    for mut compiler in running {
        assert!(compiler.wait().unwrap().success(), "a kernel does not compile on the CPU");
    }
    let linked = objects.path().join("kernels");
    let mut linker = start(Command::new(&compiler).args(sources.iter().map(object)).arg("-o").arg(&linked));
    assert!(linker.wait().unwrap().success(), "the kernels do not link on the CPU");
    std::fs::rename(linked, program).unwrap();
}
