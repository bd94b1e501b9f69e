# Task 6, language-based audio retrieval: the chain of common/run/task.mk, and what only this task has.
# Of more runs the first four are packaged: a team has no more systems.
task6-package-runs = $(wordlist 1,4,$(task6-runs))
task6-results = run*/plots, run*/results.json, run*/queries.csv
$(eval $(call task,task6,task6_retrieval,Task 6,1))

# Without a recipe what needs no training answers.
task6-trained = $(if $(RECIPE),--recipe $(RECIPE))
.PHONY: task6-captions task6-index task6-search task6-demo
task6-captions: $(READY) ## Task 6: captions find captions of their clip (CAPTIONS=csv)
	$(LAUNCH) $(PY) -m task6_retrieval captions $(CAPTIONS) $(ARGS)
task6-index: $(READY) ## Task 6: hear a folder of recordings once (LIBRARY=folder)
	$(LAUNCH) $(PY) -m task6_retrieval index $(LIBRARY) $(task6-trained) $(ARGS)
task6-search: $(READY) ## Task 6: the recordings of such a folder that fit a sentence (LIBRARY=folder QUERY="a dog barks")
	$(LAUNCH) $(PY) -m task6_retrieval search $(if $(QUERY),$(call quoted,$(QUERY))) $(if $(LIBRARY),--library $(LIBRARY)) $(task6-trained) $(ARGS)
task6-demo: $(READY) ## Task 6: a page: search a folder by sentence and sound (LIBRARY=folder)
	$(PY) -m task6_retrieval demo $(if $(LIBRARY),--library $(LIBRARY)) $(task6-trained) $(ARGS)
