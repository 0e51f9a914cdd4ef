"""The command line: each module parses and calls one function.

app: ``main`` · root: the typer app, and what the commands share · options: options from settings · door:
through Prefect or not · the others: commands, by their names · demonstration: what demo shows.
"""
