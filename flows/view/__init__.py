"""The page of ``spectile view``.

page: ``serve``, ``make_server`` · guard: which requests are answered · session: what all pages
share · map, spectra, catalog: the parts of the page.
"""
