"""Run directories, Lightning, several processes, clusters, stops and resumes, sweeps. See docs/training.md."""
