# The chain of a task, from data to a packaged, compared submission, by one line of its task.mk:
#   $(eval $(call task,task4,task4_sed,Task 4,1 2 3)): short name, package, title, runs by default
# gives task4-train and the rest; `call chain`, to which no challenge belongs, the same without package and validate.
# RECIPE, RUNS, ARGS="a.b=value ..." and RESTART=1 steer it. A task may set
#   <short>-VERB-words     more words of a verb, e.g. task4-predict-words = --floors
#   <short>-results        what the chain leaves beside the comparison
#   <short>-package-runs   the runs that are packaged; where it is empty the chain ends with the comparison
# LAUNCH="srun --gres=gpu:1" is put before every computing step, and each run is a step of its own then, so that
# `make -j 3 task4-train LAUNCH="srun --gres=gpu:1"` trains three runs side by side; else one process does all runs.
# READS="file file" are files that trainings begin with: where one is newer than a finished training, it begins anew.
# What is not a file of its own is a stamp: .trained, .predicted, .evaluated of the recipe and of each run, .packaged.

comma := ,
space := $(subst ,, )
quoted = '$(subst ','\'',$1)'

# The recipe's path is part of targets and commands; ARGS is read by the shell, so that quotes in it hold.
SPECIAL := ' " ` \ $$ & | ; < > ( ) * ? [ ] { } : = % \#
ifneq (,$(word 2,$(RECIPE))$(strip $(foreach c,$(SPECIAL),$(findstring $c,$(RECIPE)))))
$(error RECIPE=$(RECIPE): a path without spaces, quotes or other signs of the shell is needed; rename the file)
endif
ifneq (,$(ARGS))
ifneq (,$(shell sh -n -c $(call quoted,: $(ARGS)) 2>&1))
$(error ARGS=$(ARGS): the shell cannot read it; a value with spaces or quotes is written as ARGS="key='a value'")
endif
endif

# $(call run-folder,task4_sed,RECIPE): where the runs of a recipe lie, as `run_name` in common/run/verbs.py has it.
from-here = $(patsubst ^%,%,$(patsubst ^/%,^%,$(subst ^$(CURDIR)/,^,^$(abspath $1))))
as-name = $(if $(wildcard $1/recipes/$2.yaml),$2.yaml,$2)
of-file = $(if $(filter $1/recipes/%,$2),$(patsubst $1/recipes/%.yaml,%,$2),$(call as-name,$1,$(subst /,-,$(patsubst %.yaml,%,$2))))
run-folder = runs/$1/$(if $(filter %.yaml %.yml,$2),$(call of-file,$1,$(call from-here,$2)),$2)

# $(call verb,task4,predict): the beginning of a command; $(call job,task4,predict): the same as a computing step.
verb = $(strip $(PY) -m $($1-name) $2 $($1-$2-words)) --recipe $($1-recipe)
job = $(LAUNCH) $(call verb,$1,$2)

# $(call stamps,task4,.trained): those of the runs.
stamps = $(foreach run,$($1-runs),$($1-dir)/run$(run)/$2)

# In a training's rule: whether it had come to its end, and something that it began with is newer.
is-outdated = $(and $(READS),$(wildcard $@),$(filter $(READS),$?))

# $(call step,task4,predict,.predicted,.trained,run%/.trained): a verb for all runs, its stamp, what all and each need.
define step
ifneq (,$(LAUNCH))
$($1-dir)/$3: $($1-dir)/$4 $(call stamps,$1,$3)
	@touch $$@
$(call stamps,$1,$3): $($1-dir)/run%/$3: $($1-dir)/$5
	$$(call job,$1,$2) --runs $$* $$(ARGS)
	@mkdir -p $$(@D) && touch $$@
else
$($1-dir)/$3: $($1-dir)/$4
	$$(call job,$1,$2) --runs $$($1-runs) $$(ARGS)
	@mkdir -p $(dir $(call stamps,$1,$3)) && touch $(call stamps,$1,$3) $$@
endif
endef

define chain
tasks += $1
$1-name = $2
$1-recipe = $$(or $$(RECIPE),toy)
$1-runs = $$(or $$(subst $$(comma), ,$$(RUNS)),$4)
$1-dir := $$(call run-folder,$2,$$($1-recipe))
$1-train-words += $$(if $$(RESTART)$$(is-outdated),--restart)

.PHONY: $(patsubst %,$1-%,prepare train predict evaluate compare runs complexity benchmark)

$1-train: $$($1-dir)/comparison.csv $$(if $$($1-package-runs),$$($1-dir)/.packaged) ## all: data, trainings, scores, metrics, comparison, a challenge's archive
	@echo "everything lies in $$($1-dir): $$($1-results), comparison.*$$$$([ ! -f $$($1-dir)/submission.zip ] || echo ', submission.zip (validated)')"
$1-prepare: $$($1-dir)/coverage.json ## check and pack the data set (toy: write it)
$1-predict: $$($1-dir)/.predicted ## scores of the trained runs on the test sets
$1-evaluate: $$($1-dir)/.evaluated ## metrics and plots of the trained runs
$1-compare: $$($1-dir)/comparison.csv ## own results beside the published ones
$1-runs: $$(READY) ## list what is trained
	$$(PY) -m $2 runs $$(ARGS)
$1-complexity: $$(READY) ## parameters, bytes and MACs of a recipe's network
	$$(call verb,$1,complexity) $$(ARGS)
$1-benchmark: $$(READY) ## rates of every stage
	$$(call job,$1,benchmark) $$(ARGS)

# Changes only when other settings, or RESTART=1, are asked for, so that everything after it is made anew then.
$1-settings = printf '%s\n' $$(call quoted,--recipe $$($1-recipe) --runs $$($1-runs) $$(ARGS))
$$($1-dir)/.settings: FORCE
	@mkdir -p $$(@D); $$(if $$(RESTART),,$$($1-settings) | cmp -s - $$@ ||) $$($1-settings) > $$@
# All recipes, because they extend one another.
$$($1-dir)/coverage.json: $$($1-dir)/.settings $$(wildcard $$($1-recipe) $2/recipes/*.yaml) | $$(READY)
	$$(call job,$1,prepare) $$(ARGS)
$$(eval $$(call step,$1,train,.trained,coverage.json $$(READS),coverage.json $$(READS)))
$$(eval $$(call step,$1,predict,.predicted,.trained,run%/.trained))
$$(eval $$(call step,$1,evaluate,.evaluated,.predicted,run%/.predicted))
$$($1-dir)/comparison.csv: $$($1-dir)/.evaluated
	$$(call job,$1,compare) --runs $$($1-runs) $$(ARGS)
endef

define task
$(call chain,$1,$2,$3,$4)

.PHONY: $1-package $1-validate $1-export
$1-export: $$($1-dir)/.trained ## a trained network as files for others
	$$(call job,$1,export) --runs $$(firstword $$($1-runs)) $$(ARGS)
$1-package: $$($1-dir)/.packaged ## the challenge's archive
$1-validate: $$(READY) ## check an archive (ARCHIVE=path)
	$$(PY) -m $2 validate $$(or $$(ARCHIVE),$$($1-dir)/submission.zip) --recipe $$($1-recipe) $$(ARGS)
# One after the other also with -j: a verb tidies what others left unfinished in the recipe's folder.
$$($1-dir)/.packaged: $$($1-dir)/.evaluated $$(if $$(LAUNCH),| $$($1-dir)/comparison.csv)
	$$(call job,$1,package) --runs $$(or $$($1-package-runs),$$($1-runs)) $$(ARGS)
	@touch $$@
endef

# Systems of several steps, after `call task`: each step is a make of its own over files, or a verb, so that -n, -j,
# LAUNCH, ARGS and RESTART reach it, and a step is made anew where what it reads is newer.
#   $(call node,task4,RECIPE,1 2 3,STEPS,compare): the chain of a recipe, with such runs, up to that verb
#   $(call joined,task4,NAME,FILE,words of a verb,STEPS): a verb that makes runs/<task>/NAME/FILE; also a stamp, .FILE
# STEPS are those that it reads: recipes, for their best checkpoints, and names. They must stand above it. Of recipes
# .evaluated and .packaged follow the metrics: these change with settings that leave the checkpoints as they are.
# A step predicts without the verb's further words: what untrained networks score is no part of a system.
of-steps = $(foreach step,$2,$($1-$(step)-$3))
node = $(eval $(call node-rules,$1,$2,$3,$4,$5,$(call of-steps,$1,$4,files)))
joined = $(eval $(call joined-rules,$1,$2,$3,$4,$5,$(call of-steps,$1,$5,$(if $(filter .evaluated .packaged,$3),done,files))))
step-make = $(MAKE) --no-print-directory -o $(READY)
step-note = +@\# $1: reads $(or $2,the data set); writes $3
best-of = runs/$($1-name)/$2/run$3/checkpoints/best.ckpt

define node-rules
$1-$2-files := $(foreach run,$3,$(call best-of,$1,$2,$(run)))
$1-$2-shown := $(call best-of,$1,$2,$(if $(word 2,$3),*,$3))
$1-$2-done := runs/$($1-name)/$2/.evaluated
$1-steps += $2/.evaluated$(if $4,:$(subst $(space),$(comma),$(strip $4)))
$(if $($1-prepared),,$1-prepared := runs/$($1-name)/$2/coverage.json
# Alone: all others find the data set checked and packed.
runs/$($1-name)/$2/coverage.json: FORCE | $$(READY)
	+@$$(step-make) $1-prepare RECIPE=$2 RUNS="$3" READS=)
runs/$($1-name)/$2/.evaluated: $6 FORCE | $$($1-prepared) $$(READY)
	$$(call step-note,$2,$(call of-steps,$1,$4,shown),$$($1-$2-shown))
	+@$$(step-make) $1-$5 RECIPE=$2 RUNS="$3" READS="$6" $1-predict-words=
$$($1-$2-files): runs/$($1-name)/$2/.evaluated ;
endef

define joined-rules
$1-$2-files := runs/$($1-name)/$2/$3
$1-$2-shown := runs/$($1-name)/$2/$3
$1-$2-done := runs/$($1-name)/$2/$3
$1-steps += $2/$3$(if $5,:$(subst $(space),$(comma),$(strip $5)))
runs/$($1-name)/$2/$3: $6 | $$(READY)
	$$(call step-note,$2,$(call of-steps,$1,$5,shown),runs/$($1-name)/$2/$3)
	$$(LAUNCH) $$(PY) -m $($1-name) $4 $$(ARGS)$(if $(filter .%,$3),
	@mkdir -p $$(@D) && touch $$@)
endef

# $(call pipeline,task4,NAME): table and picture of all steps, in runs/<task>/NAME.
pipeline = $(PY) -m $($1-name) pipeline $($1-steps) --out runs/$($1-name)/$2

FORCE:
# Made by another make.
$(READS): ;
