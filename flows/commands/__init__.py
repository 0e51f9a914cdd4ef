"""The command line: each module parses and calls one function.

app: ``main`` and the main commands · cli_*: the others · demo: the demonstration.
"""
