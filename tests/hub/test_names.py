"""What people type, and what the names of files say."""

from __future__ import annotations

import pytest

from models.hub.files import HubFile, Repo, named, put_together, usual
from models.hub.names import (
    HubName,
    is_companion,
    matching,
    parse_name,
    part_of,
    problem_of_path,
    quant_of,
)
from quantize.errors import HubError, UsageError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/repo", HubName("owner/repo")),
        ("hf:owner/repo", HubName("owner/repo")),
        ("hf://owner/repo", HubName("owner/repo")),
        ("HF:owner/repo:q4_k_m", HubName("owner/repo", quant="Q4_K_M")),
        ("unsloth/Qwen3-4B-GGUF:UD-Q4_K_XL", HubName("unsloth/Qwen3-4B-GGUF", quant="UD-Q4_K_XL")),
        ("owner/repo/file.gguf", HubName("owner/repo", "file.gguf")),
        ("hf:owner/repo/Q8_0/a-00001-of-00002.gguf", HubName("owner/repo", "Q8_0/a-00001-of-00002.gguf")),
        ("https://huggingface.co/owner/repo", HubName("owner/repo")),
        ("https://huggingface.co/owner/repo/tree/main", HubName("owner/repo")),
        ("https://huggingface.co/o/r/blob/main/x.gguf?download=true", HubName("o/r", "x.gguf")),
        ("hf.co/owner/repo/resolve/main/sub/x.gguf", HubName("owner/repo", "sub/x.gguf")),
        ("builtin", None),
        ("model.gguf", None),
        ("models/model.gguf", None),
        ("./owner/repo", None),
        ("/owner/repo", None),
        ("~/owner/repo", None),
        ("..\\owner/repo", None),
        ("owner/repo/readme.md", None),
        ("owner/repo/../x.gguf", None),
        ("owner/re po", None),
        ("owner/repo:", None),
        ("owner/re--po", None),
        ("", None),
    ],
)
def test_what_a_text_names(text: str, name: HubName | None) -> None:
    assert parse_name(text) == name


@pytest.mark.parametrize(
    "text", ["hf:", "hf:repo", "hf:owner/../x.gguf", "https://huggingface.co/", "hf:a/b:c d"]
)
def test_a_prefix_without_a_name_is_a_mistake(text: str) -> None:
    with pytest.raises(UsageError, match="names no model"):
        parse_name(text)


def test_names_are_written_as_they_are_read() -> None:
    for text in ("owner/repo", "owner/repo:Q8_0", "owner/repo/sub/file.gguf"):
        assert str(parse_name(text)) == text


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("Qwen3-4B-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-3.2-1b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("gemma-4-E2B_q4_0-it.gguf", "Q4_0"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Ternary-Bonsai-8B-Q2_0_g64.gguf", "Q2_0_G64"),
        ("Ternary-Bonsai-8B-PQ2_0.gguf", "PQ2_0"),
        ("Bonsai-8B-Q1_0.gguf", "Q1_0"),
        ("LFM2.5-8B-A1B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Q8_0/big-Q8_0-00001-of-00003.gguf", "Q8_0"),
        ("BF16/big-00001-of-00003.gguf", "BF16"),
        ("m-IQ3_XXS.gguf", "IQ3_XXS"),
        ("m.TQ2_0.gguf", "TQ2_0"),
        ("m-f16.gguf", "F16"),
        ("Qwen3-4B.gguf", ""),
        ("Qwen3-4B_imatrix.gguf", ""),
    ],
)
def test_the_quantization_in_a_name(path: str, quant: str) -> None:
    assert quant_of(path) == quant


@pytest.mark.parametrize(
    "path",
    [
        "mmproj-F16.gguf",
        "mmproj-google_gemma-4-E2B-it-f16.gguf",
        "gemma-mmproj.gguf",
        "Qwen3.5-4B-imatrix.gguf",
        "imatrix.gguf",
        "MTP/Qwen3.6-35B-Q8_0.gguf",
        "mtp-Qwen3.6-Q8_0.gguf",
        "Qwen3.6-MTP-Q8_0.gguf",
        "model-draft-Q4_0.gguf",
    ],
)
def test_companions_are_known(path: str) -> None:
    assert is_companion(path)


def test_models_are_no_companions() -> None:
    assert not any(map(is_companion, ("Qwen3-4B-Q4_K_M.gguf", "smtp-helper-Q8_0.gguf", "drafting-Q4_0.gguf")))


@pytest.mark.parametrize(
    "path",
    [
        "../x.gguf",
        "a/../../x.gguf",
        "/etc/x.gguf",
        "a//x.gguf",
        "C:\\x.gguf",
        "a\\..\\x.gguf",
        "C:x.gguf",
        ".ssh/x.gguf",
        "a/.hidden.gguf",
        "x\x1b[31m.gguf",
        "x\n.gguf",
        "x\u202e.gguf",
        "x" * 241 + ".gguf",
        "/".join("abcdefghi") + ".gguf",
        "",
    ],
)
def test_hostile_paths_are_named(path: str) -> None:
    assert problem_of_path(path)


def test_good_paths_pass() -> None:
    assert not any(map(problem_of_path, ("x.gguf", "Q8_0/x-00001-of-00002.gguf", "Modèle 7B.gguf")))


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path, 100 + i, "sha256:" + "0" * 64) for i, path in enumerate(paths)]


def repo(*paths: str) -> Repo:
    models, companions, refused = put_together(files(*paths))
    return Repo("owner/repo", "c0ffee", "mit", 1, False, tuple(models), tuple(companions), tuple(refused))


def test_parts_are_one_model() -> None:
    found = repo("m-00002-of-00002.gguf", "m-00001-of-00002.gguf", "lost-00001-of-00003.gguf", "README.md")
    (model,) = found.models
    assert model.path == "m-00001-of-00002.gguf"
    assert [p.path[-8:-5] for p in model.parts] == ["002", "002"] and model.size == 201
    assert found.refused == ("'lost.gguf' is not offered: 1 of its 3 parts are there.",)
    assert part_of("m-00004-of-00002.gguf") == ("m-00004-of-00002.gguf", 1, 1)
    assert named(found, HubName("owner/repo", "m-00002-of-00002.gguf")) == model


def test_what_a_name_means_in_a_repository() -> None:
    many = repo("m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-UD-Q2_K_XL.gguf", "mmproj-F16.gguf", "mtp-m-Q4_K_M.gguf")
    assert [m.quant for m in many.models] == ["Q8_0", "Q4_K_M", "UD-Q2_K_XL"]
    assert named(many, HubName("owner/repo")) is None
    assert usual(many.models).quant == "Q4_K_M"
    assert usual(repo("m-Q8_0.gguf", "m-Q2_K.gguf").models).quant == "Q8_0"
    assert named(many, HubName("owner/repo", quant="Q8_0")).path == "m-Q8_0.gguf"  # type: ignore[union-attr]
    assert named(many, HubName("owner/repo", quant="Q2_K_XL")).path == "m-UD-Q2_K_XL.gguf"  # type: ignore[union-attr]
    assert named(many, HubName("owner/repo", "mmproj-F16.gguf")), "a companion only by its exact name"
    with pytest.raises(HubError, match=r"has no Q3_K\. There is Q8_0, Q4_K_M, UD-Q2_K_XL\."):
        named(many, HubName("owner/repo", quant="Q3_K"))
    with pytest.raises(HubError, match=r"has no file x\.gguf"):
        named(many, HubName("owner/repo", "x.gguf"))
    with pytest.raises(HubError, match="holds no GGUF model"):
        named(repo("model.safetensors", "mmproj-F16.gguf"), HubName("owner/repo"))
    assert named(repo("only.gguf", "mmproj-F16.gguf"), HubName("owner/repo")).path == "only.gguf"  # type: ignore[union-attr]


def test_labels_are_matched() -> None:
    assert matching("q4_k_m", ["Q4_K_M", "UD-Q4_K_M"]) == "Q4_K_M"
    assert matching("Q4_K_M", ["UD-Q4_K_M"]) == "UD-Q4_K_M"
    assert matching("Q2_0", ["Q2_0_G64", "Q1_0"]) == "Q2_0_G64"
    assert matching("Q4_K", ["Q4_K_M", "Q4_K_S"]) == "", "two could be meant"
