# Query by vocal imitation: the chain of common/run/task.mk. JOBS=2 trains two folds at once. The form of QVIM 2025 has
# recipes of its protocol alone: without RECIPE `make qbv-train` also makes toy_qvim and its archive.
# `make qbv-reproduce` is coarse_doubled, then `fine` and qvim2025; with RECIPE=toy toy, toy_fine and toy_qvim.
qbv-then := $(if $(RECIPE),,$(if $(filter qbv-train,$(MAKECMDGOALS)),toy_qvim))
ifneq (,$(filter qbv-reproduce,$(MAKECMDGOALS)))
RECIPE ?= coarse_doubled
qbv-then := $(if $(filter toy,$(RECIPE)),toy_fine toy_qvim,fine qvim2025)
endif
# Of more runs the first three are packaged: a team has no more systems. The recipe toy has nothing to submit.
qbv-package-runs = $(if $(RECIPE),$(wordlist 1,3,$(qbv-runs)))
qbv-results = run*/plots, run*/results.json
qbv-train-words = $(if $(JOBS),--jobs $(JOBS))
$(eval $(call task,qbv,qbv,QBV,1))
$(foreach recipe,$(qbv-then),$(call node,qbv,$(recipe),$(qbv-runs),,$(if $(findstring qvim,$(recipe)),train,compare)))

.PHONY: qbv-reproduce
qbv-train: $(foreach recipe,$(filter toy_qvim,$(qbv-then)),$(qbv-$(recipe)-done))
qbv-reproduce: $(qbv-dir)/comparison.csv $(foreach recipe,$(qbv-then),$(qbv-$(recipe)-done)) ## QBV: all folds, the fine-grained protocol, QVIM and its archive (RECIPE=toy: on embedded data)

# Without a recipe what needs no training answers.
qbv-trained = $(if $(RECIPE),--recipe $(RECIPE))
.PHONY: qbv-index qbv-search qbv-demo
qbv-index: $(READY) ## QBV: hear a folder of recordings once (LIBRARY=folder)
	$(LAUNCH) $(PY) -m qbv index $(LIBRARY) $(qbv-trained) $(ARGS)
qbv-search: $(READY) ## QBV: the recordings of such a folder that fit an imitation (LIBRARY=folder IMITATION=wav)
	$(LAUNCH) $(PY) -m qbv search $(if $(IMITATION),$(call quoted,$(IMITATION))) $(if $(LIBRARY),--library $(LIBRARY)) $(qbv-trained) $(ARGS)
qbv-demo: $(READY) ## QBV: a page: imitate a sound, hear what fits (LIBRARY=folder)
	$(PY) -m qbv demo $(if $(LIBRARY),--library $(LIBRARY)) $(qbv-trained) $(ARGS)
