"""What users get from a cube: pictures, spectra, reports, exports.

accessor: ``.spectile`` on xarray objects · view: maps and spectra for the page · export, formats: other
file formats · quicklook, report, report_measures, report_page: pictures and the report · quality: the
measure of seams.
"""
