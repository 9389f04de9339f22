"""Files, data and moments that nobody chose: what the package does when they come.

``python -m benchmarks.fuzz.models``, ``python -m benchmarks.fuzz.inputs`` and ``python -m benchmarks.fuzz.kills``.
"""
