"""Writes a first config for the user's own files: `grasp-jax init FOLDER`."""
