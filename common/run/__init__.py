"""The harness: from verbs to runs, from runs to tables. What is the same for every system, and knows none.

verbs        typed functions -> a command line; what every verb knows of its run
task_verbs   verbs that are the same in several tasks, and parts of others
config       recipes in YAML and overrides -> dataclasses, with errors that name file, line and key
imports      own networks, encoders and augmentations: `module:Name` in a recipe
yaml_lines   YAML with the line of every key
marked_yaml  the same for checks that note what is wrong
settings     parts of a recipe that all tasks have
errors       what a user did wrong, in one line
files        files that appear whole or not at all; rows of tables
download     files from the network: resumed, verified
hdf5         HDF5 files that appear whole or not at all
pickles      pickles from anybody, of which nothing is run
folders      what lies in folders of other people: walked, printable, without clutter
numbers      numbers in tables and options, as the field reads them
progress     the one progress line
processes    cores that may be used, worker processes
seeds        seeds out of numbers
training     `fit` with the Lightning Trainer: resumes, measures energy, keeps the best and the last checkpoint
callbacks    of every training
checkpoints  found, verified, filled into networks
energy       kWh
results      results.json, intervals, tables, own figures beside published ones or one another, list of runs
plots        all in one style
tensorboard  settings, main figures and pictures of a run
benchmark    rates, in turns; a training step in memory and whole training
complexity   parameters, bytes, multiply-accumulates
onnx_graphs  networks as ONNX graphs
latency      of ONNX files, on one core
export       a trained network as a folder for others, and to the Hugging Face Hub
submission   archives of the challenges, and their rules
"""
