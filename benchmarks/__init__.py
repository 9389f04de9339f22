"""Peers side by side, ablation, scale and null calibration; see ``benchmarks/README.md``."""

import os

# Before torch is imported anywhere: threads that wait actively make a step ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
