"""From disk to batches: classes, layout, splits, prepare, sets, batches; impulses, teachers; toy (embedded set)."""
