"""Work on many machines, through Dask's distributed scheduler: docs/cluster.md."""
