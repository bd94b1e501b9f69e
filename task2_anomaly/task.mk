# Task 2: from data to a packaged, compared submission. RECIPE, RUNS, JOBS, ARGS="a.b=value ..." and RESTART=1 steer it.
# What is not a file of its own is a stamp in the run's folder: .trained, .predicted, .evaluated, .packaged.
T2_RECIPE = $(or $(RECIPE),toy)
T2_RUNS = $(or $(RUNS),1)
T2_DIR = runs/task2_anomaly/$(notdir $(basename $(T2_RECIPE)))
# All of them, because recipes extend one another.
T2_FILES = $(wildcard $(T2_RECIPE) task2_anomaly/recipes/*.yaml)
T2 = $(PY) -m task2_anomaly
T2_RUN = --recipe $(T2_RECIPE) --runs $(T2_RUNS)
T2_JOBS = $(if $(JOBS),--jobs $(JOBS))

.PHONY: task2-prepare task2-train task2-predict task2-evaluate task2-package task2-validate task2-compare \
  task2-complexity task2-benchmark task2-grid

task2-train: $(T2_DIR)/comparison.csv $(T2_DIR)/.packaged ## Task 2: data, one training per machine, scores, metrics, archive, comparison
	@echo "everything lies in $(T2_DIR): run*/plots, run*/scores, comparison.*$$([ ! -f $(T2_DIR)/submission.zip ] || echo ', submission.zip (validated)')"

task2-prepare: $(T2_DIR)/coverage.json ## Task 2: check and pack the data set (toy: write it)
task2-predict: $(T2_DIR)/.predicted ## Task 2: scores of the trained machines on the test sets
task2-evaluate: $(T2_DIR)/.evaluated ## Task 2: metrics and plots of the trained runs
task2-package: $(T2_DIR)/.packaged ## Task 2: the challenge archive
task2-compare: $(T2_DIR)/comparison.csv ## Task 2: own results beside the published ones
task2-grid: $(T2_DIR)/coverage.json ## Task 2: the study of proxy sets (STUDIES="proxies amounts ..." SEEDS="1 2 3")
	$(T2) grid --recipe $(T2_RECIPE) $(ARGS) $(T2_JOBS) $(if $(STUDIES),--studies $(STUDIES)) $(if $(SEEDS),--seeds $(SEEDS))
task2-validate: $(READY) ## Task 2: check an archive (ARCHIVE=path)
	$(T2) validate $(or $(ARCHIVE),$(T2_DIR)/submission.zip) --recipe $(T2_RECIPE) $(ARGS)
task2-complexity: $(READY) ## Task 2: parameters and MACs of a recipe's network
	$(T2) complexity --recipe $(T2_RECIPE) $(ARGS)
task2-benchmark: $(READY) ## Task 2: rates of training and scoring, trainings at once against one by one
	$(T2) benchmark --recipe $(T2_RECIPE) $(ARGS)

# Changes only when other settings, or RESTART=1, are asked for, so that everything after it is made anew then.
$(T2_DIR)/.settings: FORCE
	@mkdir -p $(@D); $(if $(RESTART),,echo '$(T2_RUN) $(ARGS)' | cmp -s - $@ ||) echo '$(T2_RUN) $(ARGS)' > $@

$(T2_DIR)/coverage.json: $(T2_DIR)/.settings $(T2_FILES) | $(READY)
	$(T2) prepare --recipe $(T2_RECIPE) $(ARGS)
$(T2_DIR)/.trained: $(T2_DIR)/coverage.json
	$(T2) train $(T2_RUN) $(T2_JOBS) $(if $(RESTART),--restart) $(ARGS)
	@touch $@
$(T2_DIR)/.predicted: $(T2_DIR)/.trained
	$(T2) predict $(T2_RUN) $(ARGS)
	@touch $@
$(T2_DIR)/.evaluated: $(T2_DIR)/.predicted
	$(T2) evaluate $(T2_RUN) $(ARGS)
	@touch $@
$(T2_DIR)/comparison.csv: $(T2_DIR)/.evaluated
	$(T2) compare $(T2_RUN) $(ARGS)
$(T2_DIR)/.packaged: $(T2_DIR)/.evaluated
	$(T2) package $(T2_RUN) $(ARGS)
	@touch $@
