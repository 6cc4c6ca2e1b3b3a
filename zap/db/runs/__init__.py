"""The training runs: their options, progress and results, and the lease that lets one process train at a time."""
