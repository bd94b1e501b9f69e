# Task 6, language-based audio retrieval: the chain of common/run/task.mk, and what only this task has.
# Of more runs the first four are packaged: a team has no more systems.
task6-package-runs = $(wordlist 1,4,$(task6-runs))
task6-results = run*/plots, run*/results.json, run*/queries.csv
$(eval $(call task,task6,task6_retrieval,Task 6,1))

# Without a recipe what needs no training answers.
task6-trained = $(if $(RECIPE),--recipe $(RECIPE))
.PHONY: task6-tune task6-captions task6-index task6-search task6-demo
task6-tune: $(task6-dir)/coverage.json ## Task 6: search for settings that validate best
	$(call job,task6,tune) $(ARGS)
task6-captions: $(READY) ## Task 6: captions find captions of their clip (CAPTIONS=csv)
	$(LAUNCH) $(PY) -m task6_retrieval captions $(CAPTIONS) $(ARGS)
task6-index: $(READY) ## Task 6: hear a folder of recordings once (LIBRARY=folder)
	$(LAUNCH) $(PY) -m task6_retrieval index $(LIBRARY) $(task6-trained) $(ARGS)
task6-search: $(READY) ## Task 6: the recordings of such a folder that fit a sentence (LIBRARY=folder QUERY="a dog barks")
	$(LAUNCH) $(PY) -m task6_retrieval search $(if $(QUERY),$(call quoted,$(QUERY))) $(if $(LIBRARY),--library $(LIBRARY)) $(task6-trained) $(ARGS)
task6-demo: $(READY) ## Task 6: a page: search a folder by sentence and sound (LIBRARY=folder)
	$(PY) -m task6_retrieval demo $(if $(LIBRARY),--library $(LIBRARY)) $(task6-trained) $(ARGS)

# The system that ranked first in 2024: three encoders (stage 1), whose vectors of the training set teach each of them
# once more (stage 2), averaged; with RECIPE=toy of toy_mn, toy_atst, toy_passt and toy_taught...
task6-all := $(if $(RECIPE),$(RECIPE)_)
task6-pairs := $(if $(RECIPE),$(RECIPE)_mn:$(RECIPE)_taught $(RECIPE)_atst:$(RECIPE)_taught_atst $(RECIPE)_passt:$(RECIPE)_taught_passt,stage1:stage2 stage1_atst:stage2_atst stage1_mn:stage2_mn)
task6-first = $(word 1,$(subst :, ,$1))
task6-second = $(word 2,$(subst :, ,$1))
task6-last := $(foreach pair,$(task6-pairs),$(call task6-second,$(pair)))
task6-heard := $(foreach pair,$(task6-pairs),$(call task6-first,$(pair))_embeddings)
# Teachers are the first runs; a run of stage 2 begins with stage 1's of its number.
$(foreach first,$(foreach pair,$(task6-pairs),$(call task6-first,$(pair))),\
  $(call node,task6,$(first),$(sort 1 $(task6-runs)),,evaluate)\
  $(call joined,task6,$(first)_embeddings,.predicted,predict --recipe $(first) --sets clotho_development,$(first)))
$(foreach pair,$(task6-pairs),\
  $(call node,task6,$(call task6-second,$(pair)),$(task6-runs),$(call task6-first,$(pair)) $(task6-heard),compare))
task6-joint := --recipe $(firstword $(task6-last)) --run-dir runs/task6_retrieval/$(task6-all)ensemble --runs
$(call joined,task6,$(task6-all)ensemble,.evaluated,evaluate --ensemble $(task6-last) $(task6-joint) $(task6-runs),$(task6-last))
$(call joined,task6,$(task6-all)comparison,.compared,compare $(task6-joint) $(task6-runs),$(task6-all)ensemble)
$(call joined,task6,$(task6-all)archive,.packaged,package --edition 2022 2023 2024 2025 $(task6-joint) $(task6-package-runs),$(task6-all)comparison)

.PHONY: task6-reproduce task6-pipeline
task6-reproduce: $(task6-$(task6-all)archive-done) ## Task 6: the system that ranked first in 2024, all steps (RECIPE=toy: on embedded data)
	$(call pipeline,task6,$(task6-all)system)
task6-pipeline: $(READY) ## Task 6: the steps of that system so far: seconds, energy, figures, a picture
	$(call pipeline,task6,$(task6-all)system)
