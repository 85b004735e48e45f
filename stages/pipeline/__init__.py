"""What the data stages share: params, shards, the runner, the reuse store, quarantine, errors."""

import os

# No stage's numbers go through BLAS, but loading numpy or scipy starts its threads: a tenth of a CPU second each time
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Unless told not to, onnxruntime 1.29 and later keep an identifier in the user's cache and report each use to
# Microsoft.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
