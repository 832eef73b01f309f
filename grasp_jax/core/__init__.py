"""What every other folder may use: errors, files, locks, logs and progress. Nothing here knows of recommendation."""
