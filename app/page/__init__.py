"""The local page: `python -m app.page`, or `make serve`. docs/page.md says how it is built and what it lets through."""
