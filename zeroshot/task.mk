# Zero-shot tagging: the chain of common/run/task.mk without a challenge, and what only this task has.
zeroshot-results = run*/plots, run*/results.json
zeroshot-distance-words = $(if $(ALSO),--also $(ALSO))
$(eval $(call chain,zeroshot,zeroshot,Zero-shot,1))

.PHONY: zeroshot-distance
zeroshot-distance: $(zeroshot-dir)/.evaluated ## Zero-shot: how quality falls with semantic distance (ALSO="recipes")
	$(call job,zeroshot,distance) --runs $(zeroshot-runs) $(ARGS)
