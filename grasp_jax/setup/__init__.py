"""A first config for somebody's own files: `grasp-jax init FOLDER`."""
