"""`--mode=report`: the tables, figures and examples of finished runs, as Markdown, LaTeX, CSV and one HTML page."""
