# Task 1: from data to a packaged, compared submission. RECIPE, RUNS, ARGS="a.b=value ..." and RESTART=1 steer it.
# What is not a file of its own is a stamp in the run's folder: .trained, .predicted, .evaluated, .packaged.
T1_RECIPE = $(or $(RECIPE),toy)
T1_RUNS = $(or $(RUNS),1)
T1_DIR = runs/task1_asc/$(notdir $(basename $(T1_RECIPE)))
# All of them, because recipes extend one another.
T1_FILES = $(wildcard $(T1_RECIPE) task1_asc/recipes/*.yaml)
T1 = $(PY) -m task1_asc
T1_RUN = --recipe $(T1_RECIPE) --runs $(T1_RUNS)

.PHONY: task1-prepare task1-train task1-predict task1-evaluate task1-package task1-validate task1-compare \
  task1-complexity task1-benchmark task1-splits task1-teach task1-search task1-export task1-reproduce

task1-train: $(T1_DIR)/comparison.csv $(T1_DIR)/.packaged ## Task 1: data, five splits, predictions, metrics, archive, comparison
	@echo "everything lies in $(T1_DIR): run*/plots, run*/split*/results.json, comparison.*, report.*$$([ ! -f $(T1_DIR)/submission.zip ] || echo ', submission.zip (validated)')"

task1-prepare: $(T1_DIR)/coverage.json ## Task 1: check and pack the data set (toy: write it)
task1-predict: $(T1_DIR)/.predicted ## Task 1: predictions of the trained runs on test and evaluation set
task1-evaluate: $(T1_DIR)/.evaluated ## Task 1: metrics and plots of the trained runs
task1-package: $(T1_DIR)/.packaged ## Task 1: the challenge's archive of the first run
task1-compare: $(T1_DIR)/comparison.csv ## Task 1: own results beside the published ones
task1-validate: $(READY) ## Task 1: check a submission (ARCHIVE=path)
	$(T1) validate $(or $(ARCHIVE),$(T1_DIR)/submission.zip) --recipe $(T1_RECIPE) $(ARGS)
task1-complexity: $(READY) ## Task 1: parameters, bytes, MACs against the limits (MODEL=module:function for your own)
	$(T1) complexity $(MODEL) --recipe $(T1_RECIPE) $(ARGS)
task1-benchmark: $(READY) ## Task 1: clips a second of every stage
	$(T1) benchmark --recipe $(T1_RECIPE) $(ARGS)
task1-splits: $(if $(DATA),$(READY),$(T1_DIR)/coverage.json) ## Task 1: new training splits of the official form, checked (OUT=folder, DATA=folder)
	$(T1) splits make $(DATA) --out $(or $(OUT),$(T1_DIR)/splits) --recipe $(T1_RECIPE) $(ARGS)
task1-teach: $(T1_DIR)/.trained ## Task 1: store the logits of trained teachers
	$(T1) teach $(T1_RUN) $(ARGS)
task1-search: $(READY) ## Task 1: networks that fit into the limits
	$(T1) search --recipe $(T1_RECIPE) $(ARGS)
task1-export: $(T1_DIR)/.trained ## Task 1: ONNX files, checked, with latency and memory
	$(T1) export --recipe $(T1_RECIPE) --runs $(firstword $(T1_RUNS)) $(ARGS)
task1-reproduce: $(READY) ## Task 1: the paper's table: five splits, five seeds, all stages (RECIPE=baseline by default)
	$(T1) reproduce --recipe $(or $(RECIPE),baseline) --runs $(or $(RUNS),1 2 3 4 5) $(if $(RESTART),--restart) $(ARGS)

# Changes only when other settings, or RESTART=1, are asked for, so that everything after it is made anew then.
$(T1_DIR)/.settings: T1_FORCE
	@mkdir -p $(@D); $(if $(RESTART),,echo '$(T1_RUN) $(ARGS)' | cmp -s - $@ ||) echo '$(T1_RUN) $(ARGS)' > $@
T1_FORCE:

$(T1_DIR)/coverage.json: $(T1_DIR)/.settings $(T1_FILES) | $(READY)
	$(T1) prepare --recipe $(T1_RECIPE) $(ARGS)
$(T1_DIR)/.trained: $(T1_DIR)/coverage.json
	$(T1) train $(T1_RUN) $(if $(RESTART),--restart) $(ARGS)
	@touch $@
$(T1_DIR)/.predicted: $(T1_DIR)/.trained
	$(T1) predict $(T1_RUN) $(ARGS)
	@touch $@
$(T1_DIR)/.evaluated: $(T1_DIR)/.predicted
	$(T1) evaluate $(T1_RUN) $(ARGS)
	@touch $@
$(T1_DIR)/comparison.csv: $(T1_DIR)/.evaluated
	$(T1) compare $(T1_RUN) $(ARGS)
$(T1_DIR)/.packaged: $(T1_DIR)/.evaluated
	$(T1) package --recipe $(T1_RECIPE) --runs $(firstword $(T1_RUNS)) $(ARGS)
	@touch $@
