from spam_mlflow.storage.manifest import FILES, File, Manifest


def test_a_manifest_survives_its_text() -> None:
    manifest = Manifest({FILES[0]: File(3, "0" * 64)}, {"model_uri": "models:/spam-classifier/1"})
    assert Manifest.from_json(manifest.to_json()) == manifest
