"""What is new in an inbox, into cubes.

sweep: one round over the inbox.
"""
