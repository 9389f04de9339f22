"""What must hold for any matrix and any labels of batches; tests try some, `python -m benchmarks.properties` many."""
