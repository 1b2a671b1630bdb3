//! Whether a launcher of parallel jobs started this process, as its variables in the environment say: Open MPI's `mpirun`, the
//! `mpiexec` of MPICH and its relatives, Slurm's `srun`.

/// How a process was started: as one of several that a launcher started together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub ranks: usize,
}

/// Variables that say the number of a process and the number of all, launcher by launcher. Slurm's last one is there only in what
/// `srun` started, not in the script that called it.
const VARIABLES: [[&str; 2]; 3] =
    [["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"], ["PMI_RANK", "PMI_SIZE"], ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"]];

/// Variable by which a user says that each process of a launcher does work of its own.
pub(crate) const ALONE: &str = "BIPO_ALONE";

impl Launch {
    /// Returns how this process was started; `None` if no launcher is known to have started it, or if `BIPO_ALONE` says that it has
    /// nothing to do with the other processes.
    pub fn of_this_process() -> Option<Self> {
        Self::by(|name| std::env::var(name).ok())
    }

    fn by(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        if variable(ALONE).is_some_and(|value| !value.is_empty()) {
            return None;
        }
        let number = |name: &str| variable(name)?.parse().ok();
        VARIABLES.iter().find_map(|[rank, ranks]| Some(Self { rank: number(rank)?, ranks: number(ranks)? }))
    }
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
