"""Time, memory and scores of the whole call on many simulated cells, in memory and from stores larger than it."""
