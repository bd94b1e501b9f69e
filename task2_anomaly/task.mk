# Task 2, anomalous sound detection: the chain of common/run/task.mk, and what only this task has.
# One training per machine, JOBS of them at once.
task2-results = run*/plots, run*/scores
task2-package-runs = $(task2-runs)
task2-train-words = $(if $(JOBS),--jobs $(JOBS))
task2-grid-words = $(if $(JOBS),--jobs $(JOBS)) $(if $(STUDIES),--studies $(STUDIES)) $(if $(SEEDS),--seeds $(SEEDS))
task2-ensemble-words = $(SCORES) $(if $(OUT),--out $(OUT)) $(if $(METHOD),--method $(METHOD))
$(eval $(call task,task2,task2_anomaly,Task 2,1))

.PHONY: task2-grid task2-ensemble
task2-grid: $(task2-dir)/coverage.json ## Task 2: the study of proxy sets (STUDIES="proxies amounts ..." SEEDS="1 2 3")
	$(call job,task2,grid) $(ARGS)
task2-ensemble: $(READY) ## Task 2: scores of several systems joined (SCORES="folder folder ..." OUT=folder METHOD=median)
	$(call job,task2,ensemble) $(ARGS)
