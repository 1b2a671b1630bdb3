#!/usr/bin/env bash
# Tests bipo train as the ranks of MPI jobs. Needs mpirun, an MPI library and libclang: openmpi-bin libopenmpi-dev libclang-dev. bipo
# itself is compiled with few optimisations, because the model of the tests is tiny: about three minutes of processor time in all.
set -euo pipefail
cd "$(dirname "$0")/.."
# Nobody shall take the slow program for the real one, which the next build puts there again.
trap 'rm -f "${CARGO_TARGET_DIR:-target}/release/bipo"' EXIT
cargo test --release --config profile.release.package.bipo.opt-level=1 --features mpi --test mpi
