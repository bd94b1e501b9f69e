# Query by vocal imitation: the chain of common/run/task.mk without an archive. JOBS=2 trains two folds at once.
# `make qbv-reproduce` is that of the recipe coarse_doubled, and then of `fine`; with RECIPE=toy of toy and toy_fine.
ifneq (,$(filter qbv-reproduce,$(MAKECMDGOALS)))
RECIPE ?= coarse_doubled
qbv-fine := $(if $(filter toy,$(RECIPE)),toy_fine,fine)
endif
qbv-results = run*/plots, run*/results.json
qbv-train-words = $(if $(JOBS),--jobs $(JOBS))
$(eval $(call chain,qbv,qbv,QBV,1))
$(if $(qbv-fine),$(call node,qbv,$(qbv-fine),$(qbv-runs),,compare))

.PHONY: qbv-reproduce
qbv-reproduce: $(qbv-dir)/comparison.csv $(if $(qbv-fine),$(qbv-$(qbv-fine)-done)) ## QBV: all folds and the fine-grained protocol (RECIPE=toy: on embedded data)

# Without a recipe what needs no training answers.
qbv-trained = $(if $(RECIPE),--recipe $(RECIPE))
.PHONY: qbv-index qbv-search qbv-demo
qbv-index: $(READY) ## QBV: hear a folder of recordings once (LIBRARY=folder)
	$(LAUNCH) $(PY) -m qbv index $(LIBRARY) $(qbv-trained) $(ARGS)
qbv-search: $(READY) ## QBV: the recordings of such a folder that fit an imitation (LIBRARY=folder IMITATION=wav)
	$(LAUNCH) $(PY) -m qbv search $(if $(IMITATION),$(call quoted,$(IMITATION))) $(if $(LIBRARY),--library $(LIBRARY)) $(qbv-trained) $(ARGS)
qbv-demo: $(READY) ## QBV: a page: imitate a sound, hear what fits (LIBRARY=folder)
	$(PY) -m qbv demo $(if $(LIBRARY),--library $(LIBRARY)) $(qbv-trained) $(ARGS)
