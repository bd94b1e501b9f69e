"""Submissions to DCASE Task 1 of 2024 (outputs) and 2025 (inference package): packing and checking them.

make_meta(about: SubmissionConfig, results: {split: `scene_metrics`}, parameters: int, size_bytes: int, macs: int,
          **description) -> SubmissionMeta          description: fields of Description
package_2024(out: Path, systems: Sequence[System2024], report: Path | None = None,
             files: int | Collection[str] = 135_730) -> Path
    System2024(meta, outputs: {split: Path of its evaluation output.csv})
package_2025(out: Path, systems: Sequence[Package2025], evaluation_files: int | Collection[str] = 135_730) -> Path
    in .package_2025, which needs torch
    Package2025(label, mel: MelSetting, config: ModelConfig, state: state dict of MultiDevice in the dtype of
                deployment, devices with an own network, test_list: read_split(root, "test"),
                outputs: Path | None, accuracy: Mapping | None)
validate(path: Path, edition: 2024 | 2025 = 2024, files: int | Collection[str] = 135_730, counted=None,
         training=None, split_lists=None) -> list[Violation]
evaluation_names(fold1_test.csv) -> names for `files`
"""
