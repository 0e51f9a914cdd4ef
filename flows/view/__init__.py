"""The page of ``spectile view``.

page: ``serve``, ``make_server`` · view_guard: which requests are answered · view_session: what all pages
share · view_map, view_spectra, view_catalog: the parts of the page.
"""
