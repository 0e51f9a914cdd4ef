"""The page of ``spectile view``.

page: the server · session: who looks at what · map, spectra, catalog: its parts.
"""
