"""The daemon that runs tasks: listens, claims, runs, reports."""
