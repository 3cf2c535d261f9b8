"""Executes notebooks, as `.ci/run` does: python scripts/notebook.py FILE [OUT]; with OUT the executed one is kept.

Ends with an error where a cell raises one. Needs nbclient, nbformat and ipykernel.
"""

import sys

import nbformat
from nbclient import NotebookClient

source, *out = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
NotebookClient(notebook, timeout=600).execute()
figures = sum(
    "image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])
)
print(f"{source}: {len(notebook.cells)} cells, {figures} figures")
for path in out:
    nbformat.write(notebook, path)
