"""Building and judging the models of HeartLens, offline; run from a checkout."""

import os

# numpy's matrix products are small here (a slice is laid on a view's grid), and many processes read slices at once.
# With a thread for each core they wait for each other by spinning: on two busy cores 105 ms of CPU a slice, alone 9.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# torch's threads wait for each other in the same way. Where other work takes a core they burn what is left: thirty
# steps of the smallest pre-training took 72 s on two busy cores, and 21 s with threads that sleep while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
