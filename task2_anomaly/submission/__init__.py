"""Submissions to DCASE Task 2: of 2020 (scores) and of the first-shot editions (scores and decisions).

make_meta(about: SubmissionConfig, results: {type: {metric: share}}, parameters: int, edition="2020", **description)
    -> SubmissionMeta
    results: 2020 {"auc", "pauc"}; first-shot {"auc_source", "auc_target", "pauc"} of each development machine type, as
    `task2_anomaly.evaluation.report.results_of(folder)["dev_test"]["types"]` has them; parameters: of all networks
    together; description: fields of Description
package_2020(out: Path, systems: Sequence[System], report: Path | None = None, expected: Expected = EVALUATION) -> Path
package_first_shot(out: Path, systems: Sequence[System], report: Path | None = None, expected=None) -> Path
    System(meta, scores: Path)      folder with the score (and decision) files under their official names
validate(path: Path, edition: "2020" | "first-shot" = "2020", expected=None, counted: int | None = None,
         results: {label: {type: {metric: share}}} | None = None) -> list[Violation]
    expected: {Machine: names of its test files}; None: the challenge's evaluation set

A submission is one archive for a team:

    task2/<Lastname>_<Institute>_task2.technical_report.pdf
    task2/<label>/<label>.meta.yaml                             who, what, how large, development results in per cent
    task2/<label>/anomaly_score_<type>_id_<NN>.csv              2020: a file for each of the 18 evaluation IDs
    task2/<label>/anomaly_score_<type>_section_00_test.csv      first-shot: a file for each evaluation machine type
    task2/<label>/decision_result_<type>_section_00_test.csv    and its decisions, 0 or 1
"""
