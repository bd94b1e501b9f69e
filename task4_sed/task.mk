# Task 4: from data to a packaged, compared submission. RECIPE, RUNS, ARGS="a.b=value ..." and RESTART=1 steer it.
# What is not a file of its own is a stamp in the run's folder: .trained, .predicted, .evaluated, .packaged.
T4_RECIPE = $(or $(RECIPE),toy)
T4_RUNS = $(or $(RUNS),1 2 3)
T4_DIR = runs/task4_sed/$(notdir $(basename $(T4_RECIPE)))
# All of them, because recipes extend one another.
T4_FILES = $(wildcard $(T4_RECIPE) task4_sed/recipes/*.yaml)
T4 = $(PY) -m task4_sed
T4_RUN = --recipe $(T4_RECIPE) --runs $(T4_RUNS)
# A submission is made of three trainings; with fewer the chain ends with the comparison.
T4_PACKAGED = $(if $(word 3,$(T4_RUNS)),$(T4_DIR)/.packaged)

.PHONY: task4-prepare task4-train task4-predict task4-evaluate task4-package task4-validate task4-compare \
  task4-complexity task4-benchmark

task4-train: $(T4_DIR)/comparison.csv $(T4_PACKAGED) ## Task 4: data, three trainings, scores, metrics, archive, comparison
	@echo "everything lies in $(T4_DIR): run*/plots, run*/results.json, comparison.*$$([ ! -f $(T4_DIR)/submission.zip ] || echo ', submission.zip (validated)')"

task4-prepare: $(T4_DIR)/coverage.json ## Task 4: check and pack the data set (toy: write it)
task4-predict: $(T4_DIR)/.predicted ## Task 4: scores of the trained runs on the test sets
task4-evaluate: $(T4_DIR)/.evaluated ## Task 4: metrics and plots of the trained runs
task4-package: $(T4_DIR)/.packaged ## Task 4: the challenge archive
task4-compare: $(T4_DIR)/comparison.csv ## Task 4: own results beside the published ones
task4-validate: $(READY) ## Task 4: check an archive (ARCHIVE=path)
	$(T4) validate $(or $(ARCHIVE),$(T4_DIR)/submission.zip) --recipe $(T4_RECIPE) $(ARGS)
task4-complexity: $(READY) ## Task 4: parameters and MACs of a recipe's network
	$(T4) complexity --recipe $(T4_RECIPE) $(ARGS)
task4-benchmark: $(READY) ## Task 4: clips a second of every stage
	$(T4) benchmark --recipe $(T4_RECIPE) $(ARGS)

# Changes only when other settings, or RESTART=1, are asked for, so that everything after it is made anew then.
$(T4_DIR)/.settings: FORCE
	@mkdir -p $(@D); $(if $(RESTART),,echo '$(T4_RUN) $(ARGS)' | cmp -s - $@ ||) echo '$(T4_RUN) $(ARGS)' > $@
FORCE:

$(T4_DIR)/coverage.json: $(T4_DIR)/.settings $(T4_FILES) | $(READY)
	$(T4) prepare --recipe $(T4_RECIPE) $(ARGS)
$(T4_DIR)/.trained: $(T4_DIR)/coverage.json
	$(T4) train $(T4_RUN) $(if $(RESTART),--restart) $(ARGS)
	@touch $@
$(T4_DIR)/.predicted: $(T4_DIR)/.trained
	$(T4) predict $(T4_RUN) --floors $(ARGS)
	@touch $@
$(T4_DIR)/.evaluated: $(T4_DIR)/.predicted
	$(T4) evaluate $(T4_RUN) $(ARGS)
	@touch $@
$(T4_DIR)/comparison.csv: $(T4_DIR)/.evaluated
	$(T4) compare $(T4_RUN) $(ARGS)
$(T4_DIR)/.packaged: $(T4_DIR)/.evaluated
	$(T4) package $(T4_RUN) $(ARGS)
	@touch $@
