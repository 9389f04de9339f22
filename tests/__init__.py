"""A package, so that processes that tests start import these tests and not the `tests` that some distributions install."""
