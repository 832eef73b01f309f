"""What a run needs before it starts: whether it fits the machine, and for `--mode=plan` its memory, time and price."""
