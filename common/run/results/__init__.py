"""Results of a run on disk, intervals, tables, and own results beside published ones. No torch in here."""
