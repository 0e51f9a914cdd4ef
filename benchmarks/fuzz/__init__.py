"""Broken and odd scene files through plan and run: what is refused, what is made, what goes wrong."""
