"""The same script for one process, several GPUs and several machines.

python examples/multi_gpu.py photos/
torchrun --nproc-per-node 4 examples/multi_gpu.py photos/
srun python examples/multi_gpu.py photos/            # in a SLURM job, see examples/slurm.sh
"""

import argparse
import os

import numpy as np
import torch

from super_selfish.distributed import rank, world
from super_selfish.supervisors import MomentumContrastSupervisor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", nargs="?", default="dataset")
parser.add_argument("--epochs", type=int, default=200)
parser.add_argument("--batch-size", type=int, default=256, help="images of all processes together")
parser.add_argument("--name", default="store/moco", help="in a folder that all machines share")
parser.add_argument("--smoke", action="store_true", help="random images instead of a folder")
given = parser.parse_args()
data, epochs, batch_size, more = given.data, given.epochs, given.batch_size, {"resolution": 224, "cache": "resized"}
if given.smoke:
    data = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)
    epochs, batch_size, more = 1, 8, {"queue_size": 16, "backbone": "small_resnet"}

supervisor = MomentumContrastSupervisor(data, **more)
supervisor.supervise(  # on the GPU of each process, if there is one
    recipe=None if given.smoke else "auto",
    epochs=epochs,
    batch_size=batch_size,
    precision="bf16" if torch.cuda.is_available() else "32",
    name=given.name,
    resume="auto",
    requeue="SLURM_JOB_ID" in os.environ,
    checkpoint_every="10min",
)
if rank() == 0:
    print(f"Trained {supervisor.train_state.step} updates in {world()} processes.")
