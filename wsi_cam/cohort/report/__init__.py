"""``report.html``: a cohort on one page, for any browser and for paper."""
