"""A run is one config in one folder, the workdir. A trial is one method on one backbone, a part of a run."""
