# Task 1, acoustic scene classification: the chain of common/run/task.mk, and what only this task has.
task1-results = run*/plots, run*/split*/results.json, report.*
task1-package-runs = $(firstword $(task1-runs))
task1-complexity-words = $(MODEL)
# The toy recipe's batches are too small to measure a machine by.
benchmark: task1-benchmark-words = data.batch=64
task1-splits-words = make $(DATA) --out $(or $(OUT),$(task1-dir)/splits)
$(eval $(call task,task1,task1_asc,Task 1,1))

.PHONY: task1-splits task1-teach task1-search task1-reproduce
task1-splits: $(if $(DATA),$(READY),$(task1-dir)/coverage.json) ## Task 1: new training splits of the official form, checked (OUT=folder, DATA=folder)
	$(call job,task1,splits) $(ARGS)
task1-teach: $(task1-dir)/.trained ## Task 1: store the logits of trained teachers
	$(call job,task1,teach) --runs $(task1-runs) $(ARGS)
task1-search: $(READY) ## Task 1: networks that fit into the limits
	$(call job,task1,search) $(ARGS)
task1-reproduce: $(READY) ## Task 1: the paper's table: five splits, five seeds, all stages (RECIPE=baseline by default)
	$(LAUNCH) $(PY) -m task1_asc reproduce --recipe $(or $(RECIPE),baseline) --runs $(or $(RUNS),1 2 3 4 5) $(if $(RESTART),--restart) $(ARGS)
