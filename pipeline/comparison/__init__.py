"""A cube against measurements: ``compare`` is the way in, ``reference`` reads what it is compared with."""
