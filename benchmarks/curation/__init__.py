"""What each curation step is worth: `python -m benchmarks.curation`."""
