"""What the data stages share: params, shards, the runner, the reuse store, quarantine, errors."""

import os

# No stage's numbers go through BLAS, but loading numpy or scipy starts its threads: a tenth of a CPU second each time
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
