"""The churn report: one HTML page for people who would rather look than read.

`page.render` turns `data.ReportData` into the page; `figures.py` computes what it says, `charts.py`
draws it, `templates/` holds its text, looks and behaviour. Pure functions; Dagster is not known
here, nothing is read or written, and the page fetches nothing when it is opened.
"""
