#!/bin/bash
# Four GPUs on each of two machines; a job that is preempted or killed goes on from its last checkpoint.
#SBATCH --job-name=selfish
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
# a process that fails ends the others; what is stopped at the limit is put back into the queue
srun --kill-on-bad-exit=1 python examples/multi_gpu.py /data/photos --name "$HOME/store/moco-$SLURM_JOB_ID"
