"""From disk to clips, class splits and class vectors.

layout (ESC-50, AudioSet, OpenMIC), ontology, texts, vectors, splits, sets, prepare, embeddings, batches; toy.
"""
