"""The page of a report: its HTML, style and scripts as files of the package, and what puts them together."""
