"""Challenge archives: built whole, opened safely, checked by rules that name file and line.

    archive.py      zip and tar, written the same for the same content, unpacked without trust
    violations.py   broken rules, their listing and the verdict
    meta.py         who and what: authors, external data, the YAML of a meta file
    rules.py        tables of rules walked over a meta file; labels, folders, technical reports
    tables.py       tables of outputs, checked as whole columns
    package.py      the archive of one team

A new challenge needs three steps in `<task>/submission/`:

1.  `meta.py`: a subclass of `SystemMeta` with the fields that only this challenge asks for, a `MetaForm` (keys of
    affiliations and data sets, corresponding authors), and `meta_yaml` that ends in `meta_text`. A challenge without a
    meta file leaves this out.
2.  `rules.py` and `tables.py`: the meta file's rules as tuples of `Rule(key, predicate, what is expected)`, given to
    `check_rules` with `naming_rules`, `author_rules`, `dataset_rules` and `SOURCE_RULES`; and a check of an output file
    from `Table.decode`, `check_header`, `read_rows`, `check_names` and whole-column comparisons.
3.  `package.py` and `validate.py`: own runs become `Packed` systems for `build_submission`; `validate` opens anybody's
    archive with `open_archive`, collects in a `Findings`, and `judge_archives` prints and judges.
"""
