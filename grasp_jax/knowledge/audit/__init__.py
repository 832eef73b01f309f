"""`--mode=audit`: how far a run's knowledge can be trusted: what descriptions claim and keep, how vectors lie, and a sheet for raters."""
