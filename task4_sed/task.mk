# Task 4, sound event detection: the chain of common/run/task.mk.
task4-results = run*/plots, run*/results.json
# A submission is made of three trainings; with fewer the chain ends with the comparison.
task4-package-runs = $(if $(word 3,$(task4-runs)),$(task4-runs))
task4-predict-words = --floors
$(eval $(call task,task4,task4_sed,Task 4,1 2 3))
