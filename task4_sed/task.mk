# Task 4, sound event detection: the chain of common/run/task.mk.
task4-results = run*/plots, run*/results.json
# A submission is made of three trainings; with fewer the chain ends with the comparison.
task4-package-runs = $(if $(word 3,$(task4-runs)),$(task4-runs))
task4-predict-words = --floors
# Of the toy system the ensemble alone: its steps are there to be quick.
task4-evaluate-words = $(if $(filter toy_iteration%,$(RECIPE)),--no-plots)
$(eval $(call task,task4,task4_sed,Task 4,1 2 3))

.PHONY: task4-detect task4-stream
task4-detect: $(READY) ## Task 4: events in any audio (FILES="a.wav folder", MODEL=name, default: YAMNet)
	$(LAUNCH) $(PY) -m task4_sed detect $(FILES) --model $(or $(MODEL),yamnet) $(ARGS)
task4-stream: $(READY) ## Task 4: events of the microphone as they begin and end (MODEL=name, default: YAMNet)
	$(PY) -m task4_sed stream --model $(or $(MODEL),yamnet) $(ARGS)

# The system that ranked first, of the recipes iteration<1, 2>_stage<1, 2>_<model>; with RECIPE=toy of toy_iteration...
# Teachers are single trainings, the last iteration has RUNS (three, as the challenge wants).
task4-models := atst fpasst beats
task4-all := $(if $(RECIPE),$(RECIPE)_)
task4-last := $(foreach model,$(task4-models),$(task4-all)iteration2_stage2_$(model))
task4-taught := $(foreach model,$(task4-models),$(task4-all)iteration1_stage2_$(model))
$(foreach model,$(task4-models),\
  $(call node,task4,$(task4-all)iteration1_stage1_$(model),1,,evaluate)\
  $(call node,task4,$(task4-all)iteration1_stage2_$(model),1,$(task4-all)iteration1_stage1_$(model),evaluate)\
  $(call joined,task4,$(task4-all)logits_$(model),.predicted,predict --logits --recipe $(task4-all)iteration1_stage2_$(model),$(task4-all)iteration1_stage2_$(model)))
$(call joined,task4,$(task4-all)pseudo_labels,logits.h5,pseudo_labels $(task4-taught) --out runs/task4_sed/$(task4-all)pseudo_labels/logits.h5,$(foreach model,$(task4-models),$(task4-all)logits_$(model)))
$(foreach model,$(task4-models),\
  $(call node,task4,$(task4-all)iteration2_stage1_$(model),$(task4-runs),$(task4-all)pseudo_labels,evaluate)\
  $(call node,task4,$(task4-all)iteration2_stage2_$(model),$(task4-runs),$(task4-all)iteration2_stage1_$(model),compare))
task4-joint := --recipe $(firstword $(task4-last)) --runs $(task4-runs) --run-dir runs/task4_sed/$(task4-all)ensemble
$(call joined,task4,$(task4-all)ensemble,.evaluated,evaluate --ensemble $(task4-last) $(task4-joint),$(task4-last))
$(call joined,task4,$(task4-all)comparison,.compared,compare $(task4-joint),$(task4-all)ensemble)
# An archive is made of three trainings.
$(if $(task4-package-runs),$(call joined,task4,$(task4-all)archive,.packaged,package --ensemble $(task4-last) $(task4-joint),$(task4-all)comparison))

.PHONY: task4-pseudo-labels task4-reproduce task4-pipeline
task4-pseudo-labels: $(task4-$(task4-all)pseudo_labels-done) ## Task 4: that system's first iteration, and what its networks say of all training clips
task4-reproduce: $(task4-$(task4-all)$(if $(task4-package-runs),archive,comparison)-done) ## Task 4: the system that ranked first, all steps (RECIPE=toy: on embedded data)
	$(call pipeline,task4,$(task4-all)system)
task4-pipeline: $(READY) ## Task 4: the steps of that system so far: seconds, energy, figures, a picture
	$(call pipeline,task4,$(task4-all)system)

.PHONY: task4-demo
task4-demo: $(READY) ## Task 4: a page: drop or record a sound, see when what happens in it (MODEL=name, default: YAMNet)
	$(PY) -m task4_sed demo $(if $(MODEL),--model $(MODEL)) $(if $(RECIPE),--recipe $(RECIPE)) $(ARGS)

# Frame-level pre-training: teachers (RUNS), scored alone and together, the mean of their logits, a student; with
# RECIPE=toy of toy_pretrain_...
ifneq (,$(filter task4-pretrain,$(MAKECMDGOALS)))
task4-prepared :=
task4-steps :=
task4-teacher := $(task4-all)pretrain_teacher
$(call node,task4,$(task4-teacher),$(task4-runs),,evaluate)
$(call joined,task4,$(task4-all)pretrain_ensemble,.evaluated,evaluate --ensemble $(task4-runs:%=runs/task4_sed/$(task4-teacher)/run%) --recipe $(task4-teacher) --run-dir runs/task4_sed/$(task4-all)pretrain_ensemble,$(task4-teacher))
$(call joined,task4,$(task4-teacher)_logits,.predicted,predict --logits --recipe $(task4-teacher) --runs $(task4-runs),$(task4-teacher))
$(call joined,task4,$(task4-all)pretrain_logits,logits.h5,pseudo_labels $(task4-teacher) --runs $(task4-runs) --out runs/task4_sed/$(task4-all)pretrain_logits/logits.h5,$(task4-teacher)_logits)
$(call node,task4,$(task4-all)pretrain_student,1,$(task4-all)pretrain_logits,compare)
endif
.PHONY: task4-pretrain
task4-pretrain: $(task4-$(task4-all)pretrain_student-done) $(task4-$(task4-all)pretrain_ensemble-done) ## Task 4: frame-level pre-training on AudioSet-strong: teachers, their mean logits, a student (RECIPE=toy: on embedded data)
	$(call pipeline,task4,$(task4-all)pretrain)
