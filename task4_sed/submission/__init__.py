"""The submission of DCASE 2024 Task 4: packing it and checking anybody's.

A submission is one archive for a team. At its root lie the technical report and one folder per system, named
`<Author>_<Institute>_task4_<n>`; each system is trained three times independently:

    technical_report.pdf                            any name ending in .pdf
    Author_Institute_task4_1/
        Author_Institute_task4_1.meta.yaml          who, what, how large, results on the development test set
        Author_Institute_task4_1_run1.output/       post-processed scores of the first training
            <clip>.tsv                              one per clip of the evaluation set
        Author_Institute_task4_1_run1_unprocessed.output/    the same without post-processing
        Author_Institute_task4_1_run2.output/ ...
        emissions_training.csv ...                  CodeCarbon's tables of training and test, any name
    Author_Institute_task4_2/ ...                   further systems, at most eight

A score table has a header and tab-separated columns `onset`, `offset` (seconds) and one per class, in the order of
`task4_sed.data.classes.CLASSES`. Its rows follow one another without gaps: `offset` of a row is `onset` of the next,
the first onset is 0, the last offset the end of the clip (an incomplete last frame may be missing). Scores are numbers
with finer steps than yes and no; minus infinity is not allowed (0 stands for it).

`package` writes such an archive from score sets, `validate` lists every rule that an archive breaks, with file and
line. The rules are those of the challenge's own script and further ones for what it lets pass: every table instead of
a sample, the order of the classes, NaN, coverage of the clip, the names of the clips, copied runs.
"""
